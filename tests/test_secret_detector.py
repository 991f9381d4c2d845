"""What looks like a key is found wherever it stands; names of models and ids are none."""

from __future__ import annotations

from typing import Any

import pytest

from potstill.cli import main
from potstill.secrets import (
    find_secret_in_value,
    holds_secret,
    is_secret_field,
    is_secret_variable,
    redact_environment,
    redact_secrets,
)

NAMES = (
    "sk-t1-32b",
    "skywork-or1-7b",
    "Skywork/Skywork-OR1-32B-Preview",
    "hf-24db0f3a5c6d7e8f9a0b",
    "stage-1f2e3d4c5b6a79880011",
    "openai-9f8e7d6c5b4a39281706",
    "sk-fabric-mistral-7b-instruct-v0.2",
    "xai-grok-4-fast-reasoning",
    "pplx-70b-online",
    "pk-llama-7b-chat-finetuned-v2",
    "rk-3588-qwen2.5-1.5b-instruct",
    "nvapi-nemotron-70b-instruct",
    "gsk-llama3-groq-70b-8192-tool-use-preview",
    "hf-internal-testing/tiny-random-LlamaForCausalLM",
    "hf_llama_3_2_1b_instruct_finetuned",
    "sess-2024-10-01-evening-run",
    "claude-3-5-sonnet@20241022",
    "anthropic.claude-3-haiku-20240307-v1:0",
    "ft:gpt-4o-mini-2024-07-18:my-org:custom:9AbCdEfG",
    "accounts/fireworks/models/llama-v3p1-405b-instruct",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.meta.llama3-1-70b",
    "ep-20250101123456-abcde",
    "@cf/meta/llama-3.1-8b-instruct",
    "DeepSeek-R1-Distill-Qwen-1.5B",
)
# Each in the shape of a real vendor's, and made up.
SECRETS = (
    "sk-proj-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c",
    "sk-ant-api03-" + "aB3" * 25,
    "sk-or-v1-" + "0f" * 32,
    "sk-" + "9f8e" * 8,
    "sk-lf-12345678-1234-1234-1234-123456789abc",
    "gsk_" + "aB3d" * 13,
    "hf_" + "AbCdEfGhIj" * 3 + "KlMn",
    "xai-" + "a1B2" * 20,
    "nvapi-" + "aB3dE5fG7hI9" * 5,
    "pplx-" + "0f" * 24,
    "sk_live_" + "a1B2" * 6,
    "r8_" + "aB3d" * 9,
    "AKIA" + "ABCDEFGH" * 2,
    "AIzaSy" + "a1B2" * 9,
    "ghp_" + "a1B2" * 9,
    "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
    "-----BEGIN RSA PRIVATE KEY-----",
    "https://me:hunter2@host/v1",
    "https://host/v1?api_key=hunter2pw",
    "https://host/v1?a=1&access_token=hunter2pw",
    "https://host/v1%3Ftoken%3Dhunter2pw",
    "Authorization: Bearer hunter2pw",
    "Authorization: Basic aHVudGVyMnB3",
    "Bearer aZ3kd9slk3jd92ks0",
    '{"api_key": "hunter2pw"}',
    "{'x-api-key': 'hunter2pw'}",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_secret(name: str) -> None:
    spec = f"openai:{name}?url=http://127.0.0.1:8000/v1&key=MY_API_KEY&extra.max_tokens=5"
    for text in (name, f"The rows were written by {name}, at temperature 1.", spec):
        assert redact_secrets(text) == text and not holds_secret(text)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_key_is_found_wherever_it_stands(secret: str) -> None:
    for text in (
        secret,
        f"the server said {secret} twice",
        f"openai:m?url=http://h/v1&name={secret}",
    ):
        assert holds_secret(text)
    secret_part = secret.rsplit(maxsplit=1)[-1].rsplit("=", maxsplit=1)[-1]
    assert secret_part not in redact_secrets(f"so: {secret}") or "%3D" in secret


@pytest.mark.parametrize(
    "text",
    [
        "Basic understanding of arithmetic is needed.",
        "The bearer responsibilities are clear.",
        "Key: the answer is 42",
        "authorization is not needed",
        "ratio 3:4@noon, see http://host:8000/v1",
    ],
)
def test_prose_is_no_secret(text: str) -> None:
    assert redact_secrets(text) == text


def test_names_of_fields_and_variables() -> None:
    for name in (
        *("key", "token", "api_key", "API-Key", "x-api-key", "apiKey", "accessToken", "auth_token"),
        *(
            "Authorization",
            "Proxy-Authorization",
            "client_secret",
            "password",
            "aws_secret_access_key",
        ),
        *("Ocp-Apim-Subscription-Key", "x-goog-api-key", "openaiApiKey", "hf_token", "cookie"),
    ):
        assert is_secret_field(name), name
    for name in (
        *("max_tokens", "eos_token", "bos_token", "stop_token_ids", "prompt_cache_key", "user"),
        *(
            "skip_special_tokens",
            "logit_bias",
            "top_k",
            "reasoning_effort",
            "tokenizer",
            "keyboard",
        ),
    ):
        assert not is_secret_field(name), name
    assert all(
        map(is_secret_variable, ("OPENAI_API_KEY", "HF_TOKEN", "AWS_ACCESS_KEY_ID", "DB_PASSWORD"))
    )
    assert not any(
        map(is_secret_variable, ("TOKENIZERS_PARALLELISM", "HF_TOKEN_PATH", "PWD", "HOME"))
    )


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"headers": {"authorization": "Bearer zzzzzzzzzzzzzzzz"}}, "x.headers.authorization"),
        ({"headers": {"X-Api-Key": "short"}}, "x.headers.X-Api-Key"),
        ([["x-api-key", "short"]], "x.0.1"),
        ({"headers": [{"name": "Authorization", "value": "t"}]}, "x.headers.0.value"),
        ({"proxy": "http://me:pw@proxy:3128"}, "x.proxy"),
        ({"auth": {"value": {"token": "t"}}}, "x.auth.value.token"),
        ({"headers": {"X-Anything": "Bearer zzzzzzzzzzzzzzzz"}}, "x.headers.X-Anything"),
        (["fine", {"note": "use sk-proj-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c"}], "x.1.note"),
        ({"chat_template_kwargs": {"enable_thinking": False, "eos_token": "</s>"}}, None),
        ({"logit_bias": {"token": 5}, "stop_token_ids": [1, 2]}, None),
        ({"api_key": None, "password": ""}, None),
    ],
    ids=str,
)
def test_secrets_deep_in_a_value(value: object, place: str | None) -> None:
    assert find_secret_in_value(value, "x") == place


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_no_error_of_the_command_line_says_a_key(more: list[str], capsys: Any) -> None:
    key = "hf_" + "AbCdEfGhIj" * 3 + "KlMn"
    assert main(["verify", "--problems", f"hf:owner/name?token={key}", *more]) == 2
    out, err = capsys.readouterr()
    assert "can't be read as a dataset" in out + err and key not in out + err


def test_values_of_variables_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "plainwords")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsehood")
    assert redact_environment("plainwords and falsehood") == "[secret] and falsehood"
