"""Pure functions of arrays: targets, losses, aggregation, Best-of-N and calibration; no parameters, no I/O.

Import names from the module that defines them. Nothing is re-exported here, because `aggregate` and `best_of_n` name
both a module and its function; and so that the NumPy half (`best_of_n`, `calibration`) never imports JAX.
"""
