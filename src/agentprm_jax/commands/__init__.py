"""Commands: what `agentprm` does, one file a subcommand, and how every command answers what stops it."""
