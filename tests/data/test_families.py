"""Chat templates of the supported families: which are encoded turn by turn as they are, and which are refused."""

import pytest
from made_tokenizers import FORGETS_THOUGHTS, train_byte_pairs, with_template

from agentprm_jax.data.encode import ChatEncoder
from agentprm_jax.data.template import learn_template, render_with_template, stand_in
from agentprm_jax.data.tokenizer_files import load_encoder
from agentprm_jax.data.trajectory import Message

_CHATML_TURNS = (
    "{%- for message in messages %}{%- if not (loop.first and message.role == 'system') %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def chatml(unasked):
    """Qwen2.5's and SmolLM2's form: a system turn of the authors stands where the conversation has none."""
    system = "messages[0].content if messages[0].role == 'system' else '" + unasked + "'"
    return "{{- '<|im_start|>system\n' + (" + system + ") + '<|im_end|>\n' }}" + _CHATML_TURNS


QWEN25 = chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
SMOLLM2 = chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face")
LLAMA31 = (
    "{{- bos_token }}{%- set own = messages[0].role == 'system' %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n' }}"
    "{{- 'Today Date: ' + (date_string or strftime_now('%d %b %Y')) + '\n\n' }}"
    "{{- (messages[0].content | trim if own else '') + '<|eot_id|>' }}"
    "{%- for message in (messages[1:] if own else messages) %}"
    "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
# Thoughts before the last question are forgotten, and what is said after it is given an empty thought.
QWEN3 = (
    "{%- set ns = namespace(asked=-1) %}"
    "{%- for message in messages %}{%- if message.role == 'user' %}{%- set ns.asked = loop.index0 %}{%- endif %}"
    "{%- endfor %}"
    "{%- for message in messages %}"
    "{%- set said = message.content.split('</think>')[-1].lstrip('\n') %}"
    "{%- set thought = message.content.split('</think>')[0].split('<think>')[-1] if '</think>' in message.content %}"
    "{{- '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.role == 'assistant' and loop.index0 > ns.asked %}"
    "{{- '<think>\n' + (thought or '').strip('\n') + '\n</think>\n\n' + said }}"
    "{%- else %}{{- said if message.role == 'assistant' else message.content }}{%- endif %}"
    "{{- '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
QWEN3_WITHOUT_THOUGHTS = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.role == 'assistant' %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{{- message.content + '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{%- endif %}"
)
CONVERSATION = [Message("user", "go"), Message("assistant", " finish\n", True), Message("user", "over")]
SAID = {
    "qwen2.5": "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\ngo<|im_end|>\n<|im_start|>assistant\n finish\n<|im_end|>\n<|im_start|>user\nover<|im_end|>\n",
    "smollm2": "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\ngo<|im_end|>\n<|im_start|>assistant\n finish\n<|im_end|>\n<|im_start|>user\nover<|im_end|>\n",
    "llama3.1": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\ngo<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nfinish<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nover<|eot_id|>",
    "qwen3": "<|im_start|>user\ngo<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n finish\n<|im_end|>\n"
    "<|im_start|>user\nover<|im_end|>\n",
}
TEMPLATES = {"qwen2.5": QWEN25, "smollm2": SMOLLM2, "llama3.1": LLAMA31, "qwen3": QWEN3_WITHOUT_THOUGHTS}


@pytest.fixture(scope="module")
def tokenizer():
    """With the special tokens of all families."""
    made = train_byte_pairs()
    names = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    made.add_special_tokens({"bos_token": names[0], "additional_special_tokens": list(names[1:])})
    return made


def with_family(tokenizer, template):
    other = with_template(tokenizer, template)
    other.bos_token = "<|begin_of_text|>"
    return other


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_conversation_is_encoded_as_the_family_writes_it(tokenizer, family):
    encoder = ChatEncoder(with_family(tokenizer, TEMPLATES[family]))
    assert encoder.tokenizer.decode(encoder.message_tokens(CONVERSATION)) == SAID[family]


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_turn_ends_with_the_token_of_its_family(tokenizer, family):
    encoder = ChatEncoder(with_family(tokenizer, TEMPLATES[family]))
    ending = "<|eot_id|>" if family == "llama3.1" else "<|im_end|>"
    assert encoder.end_of_turn_id == tokenizer.convert_tokens_to_ids(ending)


def test_the_template_of_qwen3_is_refused_because_a_later_turn_takes_the_thought_from_an_earlier_one(tokenizer):
    with pytest.raises(ValueError, match=r"around it.*<think>.*give a file with one to `agentprm import"):
        learn_template(with_family(tokenizer, QWEN3))


def test_a_template_that_comes_along_stands_in_only_where_it_writes_the_same_prompts(tokenizer):
    other = QWEN3.replace("{%- for message in messages %}", "{{- 'Think.\n' }}{%- for message in messages %}", 1)
    assert stand_in(with_family(tokenizer, other)) is None


@pytest.mark.parametrize("shape", ["u", "su", "uau", "suau", "uauau", "uuau", "usau"])
@pytest.mark.parametrize("said", ["go left", " \n go \n", "Action:\n\ngo"])
def test_the_template_for_qwen3_writes_prompts_without_thoughts_as_the_models_own(tokenizer, shape, said):
    roles = {"s": "system", "u": "user", "a": "assistant"}
    messages = [(roles[letter], said.lstrip("\n") if letter == "a" else said) for letter in shape]
    own = with_family(tokenizer, QWEN3)
    other = with_family(tokenizer, stand_in(own))
    assert render_with_template(other, messages, True) == render_with_template(own, messages, True)


def test_the_template_for_qwen3_keeps_the_thoughts_of_every_turn(tokenizer):
    encoder = ChatEncoder(with_family(tokenizer, stand_in(with_family(tokenizer, QWEN3))))
    thought = "<think>\nleft?\n</think>\n\ngo"
    messages = [Message("user", "go"), Message("assistant", thought, True), Message("user", "over")]
    assert thought + "<|im_end|>\n<|im_start|>user" in encoder.tokenizer.decode(encoder.message_tokens(messages))


def test_a_folder_of_qwen3_is_read_with_the_template_that_keeps_thoughts_and_a_warning_says_so(
    tokenizer, tmp_path, caplog
):
    own = with_family(tokenizer, QWEN3)
    own.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, vocab_size=len(own))
    assert encoder.tokenizer.chat_template == stand_in(own)
    (said,) = caplog.messages
    assert said.startswith(f"{tmp_path}: the chat template writes a turn differently")
    with pytest.raises(ValueError, match="depending on the turns around it"):  # what the caller gives is not replaced
        load_encoder(tmp_path, vocab_size=len(own), chat_template=QWEN3)


def test_a_template_that_nothing_can_stand_in_for_is_refused_with_its_folder(tokenizer, tmp_path):
    own = with_family(tokenizer, FORGETS_THOUGHTS)
    own.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path} cannot be used: .* depending on the turns around it"):
        load_encoder(tmp_path, vocab_size=len(own))
