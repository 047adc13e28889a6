"""The agents, by the name of the command: which are set up and how, which are refused and why. Data alone.

Each row was tried with the real program, unless its remark says otherwise. What an agent would send on its own
(telemetry, looks for updates) is switched off by its own variables, where it has any; `tests/client/test_agents.py`
lists what remains.
"""

from collections.abc import Mapping

from shim.agents.contents import AI_SDK, CLINE, CN, CRUSH, LITELLM, PI, QWEN, VIBE_MODEL, VIBE_PROVIDER
from shim.agents.row import Row

CLOUD = "talks to its vendor's service alone, never to the model on this machine"
OPENAI = "needs OpenAI's API, which claude-local does not have yet"

UNTRIED = "set up as its manual says, which was not tried"

AIDER_SHORT = ("-3", "-4", "--3", "--4", "--35turbo", "--35-turbo", "--4-turbo", "--4o", "--mini", "--deepseek")
"""aider's own short words for others' models."""

ROWS: Mapping[str, Row] = {
    "opencode": Row(
        merged={"OPENCODE_CONFIG_CONTENT": AI_SDK},
        variables={"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"},
        packages=("opencode-ai",),
    ),
    "kilo": Row(
        merged={"KILO_CONFIG_CONTENT": AI_SDK},
        variables={
            "KILO_DISABLE_AUTOUPDATE": "1",
            "KILO_DISABLE_MODELS_FETCH": "1",
            "KILO_DISABLE_SESSION_INGEST": "1",
            "KILO_TELEMETRY_LEVEL": "off",
        },
        packages=("@kilocode/cli",),
        names=("kilocode",),
    ),
    "pi": Row(
        files={"pi.mjs": PI},
        arguments=("-e", "<folder>/pi.mjs", "--model", "claude-local/<model>"),
        variables={"PI_OFFLINE": "1", "PI_TELEMETRY": "0"},
        plain=("install", "remove", "uninstall", "update", "list", "config", "auth", "mcp"),
        barred=("--provider", "--api-key"),
        models=("--model", "--models"),
        ours=("claude-local/",),
        packages=("@earendil-works/pi-coding-agent", "@mariozechner/pi-coding-agent"),
    ),
    "copilot": Row(
        variables={
            "COPILOT_PROVIDER_TYPE": "anthropic",
            "COPILOT_PROVIDER_BASE_URL": "<url>",
            "COPILOT_PROVIDER_BEARER_TOKEN": "<token>",
            "COPILOT_MODEL": "<model>",
            "COPILOT_PROVIDER_MAX_PROMPT_TOKENS": "<input>",
            "COPILOT_PROVIDER_MAX_OUTPUT_TOKENS": "<output>",
            "COPILOT_OFFLINE": "true",
        },
        packages=("@github/copilot",),
    ),
    "qwen": Row(
        files={"settings.json": QWEN},
        beneath={"settings.json": "/etc/qwen-code/settings.json"},
        arguments=("--auth-type", "anthropic", "--model", "<model>"),
        variables={
            "QWEN_CODE_MAX_OUTPUT_TOKENS": "<output>",
            "QWEN_CODE_SYSTEM_SETTINGS_PATH": "<folder>/settings.json",
            "QWEN_USAGE_STATISTICS_ENABLED": "false",
            "QWEN_TELEMETRY_ENABLED": "false",
        },
        plain=("mcp", "extensions", "auth"),
        barred=("--auth-type", "-m", "--model", "--openai-base-url", "--openai-api-key"),
        packages=("@qwen-code/qwen-code",),
    ),
    "cn": Row(
        files={"cn.yaml": CN},
        arguments=("--config", "<folder>/cn.yaml"),
        variables={
            "CONTINUE_CLI_ENABLE_TELEMETRY": "0",
            "CONTINUE_METRICS_ENABLED": "0",
            "CONTINUE_CLI_AUTO_UPDATED": "true",  # it would install what it finds
            "CONTINUE_API_BASE": "<url>/",
        },
        plain=("login", "logout"),
        barred=("--config", "--model", "--org", "remote"),
        packages=("@continuedev/cli",),
    ),
    "aider": Row(
        files={"aider.env": "ANTHROPIC_BASE_URL=<url>\nANTHROPIC_API_KEY=<token>\n", "models.json": LITELLM},
        arguments=("--model", "anthropic/<model>", "--weak-model", "anthropic/<model>"),
        variables={
            # A .env of the user's overrules the environment; the file that is named here is read after it.
            "AIDER_ENV_FILE": "<folder>/aider.env",
            "AIDER_MODEL_METADATA_FILE": "<folder>/models.json",
            "AIDER_SHOW_MODEL_WARNINGS": "false",
            "AIDER_ANALYTICS": "false",
            "AIDER_CHECK_UPDATE": "false",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        barred=(*AIDER_SHORT, "--o1-mini", "--o1-preview"),
        models=("--model", "--weak-model", "--editor-model"),
        ours=("anthropic/", "claude-"),
        abbreviates=True,
        packages=("aider-chat",),
    ),
    "llm": Row(
        variables={"LLM_MODEL": "anthropic/claude-sonnet-4-5"},
        barred=("embed", "embed-multi", "similar"),
        models=("-m", "--model"),
        ours=("anthropic/", "claude-"),
        packages=("llm",),
    ),
    "mini": Row(
        arguments=("-m", "anthropic/<model>"),
        variables={
            "MSWEA_CONFIGURED": "true",
            "MSWEA_COST_TRACKING": "ignore_errors",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        models=("-m", "--model"),
        ours=("anthropic/", "claude-"),
        packages=("mini-swe-agent", "minisweagent"),
        names=("mini-swe-agent",),
    ),
    "cline": Row(
        files={"cline.json": CLINE, "global.json": {"telemetryOptOut": True, "autoUpdateEnabled": False}},
        beneath={"global.json": "~/.cline/data/settings/global-settings.json"},
        variables={
            "CLINE_GLOBAL_SETTINGS_PATH": "<folder>/global.json",
            "CLINE_PROVIDER_SETTINGS_PATH": "<folder>/cline.json",
            "CLINE_SESSION_BACKEND_MODE": "local",  # its daemon would serve later sessions too, ours or not
            "CLINE_NO_AUTO_UPDATE": "1",
        },
        barred=("-P", "--provider", "-k", "--key", "auth"),
        packages=("cline",),
    ),
    "goose": Row(
        variables={
            "GOOSE_PROVIDER": "anthropic",
            "GOOSE_MODEL": "<model>",
            "GOOSE_LEAD_PROVIDER": "anthropic",
            "GOOSE_PLANNER_PROVIDER": "anthropic",
            "GOOSE_PLANNER_MODEL": "<model>",
            "GOOSE_TELEMETRY_ENABLED": "false",
            "ANTHROPIC_HOST": "<url>",
        },
        barred=("--provider", "--recipe", "recipe", "configure"),
        remark=UNTRIED,
    ),
    "crush": Row(
        files={"crush.json": CRUSH},
        # It looks for its choice of model in the second one, too, and what is there wins.
        variables={"CRUSH_GLOBAL_CONFIG": "<folder>", "CRUSH_GLOBAL_DATA": "<folder>", "CRUSH_DISABLE_METRICS": "1"},
        barred=("-m", "--model", "--small-model", "login"),
        overruling=("crush.json", ".crush.json"),
        packages=("@charmland/crush",),
        remark=UNTRIED,
    ),
    "kimi": Row(
        variables={
            "KIMI_MODEL_PROVIDER_TYPE": "anthropic",
            "KIMI_MODEL_BASE_URL": "<url>",
            "KIMI_MODEL_API_KEY": "<token>",
            "KIMI_MODEL_NAME": "<model>",
            "KIMI_MODEL_MAX_CONTEXT_SIZE": "<window>",
            "KIMI_MODEL_MAX_OUTPUT_SIZE": "<output>",
            "KIMI_BASE_URL": "<url>/v1",  # its vendor's own models come here too, and find nothing
            "KIMI_API_KEY": "<token>",
            "KIMI_CODE_NO_AUTO_UPDATE": "1",
            "KIMI_DISABLE_TELEMETRY": "1",
        },
        barred=("-m", "--model"),
        packages=("@moonshot-ai/kimi-code",),
    ),
    "kimi-cli": Row(refusal="has been given up by its maker; Kimi Code, which comes after it, can be used"),
    "vibe": Row(
        variables={
            "VIBE_ACTIVE_MODEL": "<model>",
            "VIBE_PROVIDERS": [VIBE_PROVIDER],
            "VIBE_MODELS": [VIBE_MODEL],
            "VIBE_ALLOWED_MODELS": ["<model>"],
            "VIBE_DEFAULT_AGENT": "ask",  # one of the user's own may name a model, and would be heard before us
            "VIBE_ENABLE_TELEMETRY": "false",
            "VIBE_ENABLE_UPDATE_CHECKS": "false",
        },
        barred=("--setup",),
        models=("--agent",),
        ours=("ask", "plan", "accept-edits", "smart-approve", "auto-approve"),
        packages=("mistral-vibe",),
        names=("vibe-acp",),
    ),
    "codex": Row(refusal=OPENAI, packages=("@openai/codex",)),
    "grok": Row(refusal=OPENAI, packages=("@vibe-kit/grok-cli",)),
    "amp": Row(refusal=CLOUD, packages=("@sourcegraph/amp",)),
    "auggie": Row(refusal=CLOUD, packages=("@augmentcode/auggie",)),
    "droid": Row(refusal=CLOUD, packages=("@factory/cli",)),
    "gemini": Row(
        refusal="speaks Google's API alone, which claude-local does not have", packages=("@google/gemini-cli",)
    ),
}

BY_NAME: Mapping[str, str] = {alias: name for name, row in ROWS.items() for alias in (name, *row.names, *row.packages)}
