"""What stands in the files and variables of agents, each in the agent's own words; gaps are filled as in the table."""

from collections.abc import Mapping
from typing import Any

AI_SDK: Mapping[str, Any] = {
    "provider": {
        "claude-local": {
            "npm": "@ai-sdk/anthropic",
            "name": "claude-local",
            "options": {"baseURL": "{env:ANTHROPIC_BASE_URL}/v1", "apiKey": "{env:ANTHROPIC_AUTH_TOKEN}"},
            "models": {
                "<model>": {
                    "name": "<model>",
                    "tool_call": True,
                    "limit": {"context": "<window>", "output": "<output>"},
                }
            },
        }
    },
    "model": "claude-local/<model>",
    "small_model": "claude-local/<model>",
    "enabled_providers": ["claude-local"],
    "share": "disabled",
    "autoupdate": False,
}
"""opencode's configuration, and that of what was made from it. With one provider enabled there is no other to ask."""

PI = """\
export default function (pi) {
  const env = process.env;
  const ours = { baseUrl: env.ANTHROPIC_BASE_URL, apiKey: "$ANTHROPIC_AUTH_TOKEN" };
  // Its built-in provider would take our token to the vendor: it comes here as well.
  pi.registerProvider("anthropic", ours);
  pi.registerProvider("claude-local", {
    ...ours,
    api: "anthropic-messages",
    models: [{
      id: env.ANTHROPIC_MODEL,
      name: env.ANTHROPIC_MODEL,
      reasoning: false,
      input: ["text"],
      cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
      contextWindow: Number(env.CLAUDE_CODE_MAX_CONTEXT_TOKENS),
      maxTokens: Number(env.CLAUDE_CODE_MAX_OUTPUT_TOKENS),
    }],
  });
}
"""

CN: Mapping[str, Any] = {
    "name": "claude-local",
    "version": "1.0.0",
    "schema": "v1",
    "models": [
        {
            "name": "<model>",
            "provider": "anthropic",
            "model": "<model>",
            "apiBase": "<url>/v1/",
            "apiKey": "${{ secrets.ANTHROPIC_AUTH_TOKEN }}",
            "roles": ["chat", "edit", "apply", "summarize"],
            "capabilities": ["tool_use"],
            "defaultCompletionOptions": {"contextLength": "<window>", "maxTokens": "<output>"},
        }
    ],
}

QWEN: Mapping[str, Any] = {
    "general": {"enableAutoUpdate": False},
    # Without it, a provider of the user's with a model of the same name would be asked.
    "modelProviders": {
        "anthropic": [{"id": "<model>", "name": "<model>", "baseUrl": "<url>", "envKey": "ANTHROPIC_API_KEY"}]
    },
}

CLINE: Mapping[str, Any] = {
    "version": 1,
    "lastUsedProvider": "anthropic",
    "modes": {},
    "providers": {
        "anthropic": {
            "settings": {"provider": "anthropic", "apiKey": "<token>", "baseUrl": "<url>/v1", "model": "<model>"},
            "updatedAt": "2026-01-01T00:00:00.000Z",
            "tokenSource": "manual",
        }
    },
}

LITELLM: Mapping[str, Any] = {
    "anthropic/<model>": {
        "max_tokens": "<output>",
        "max_input_tokens": "<window>",
        "max_output_tokens": "<output>",
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "litellm_provider": "anthropic",
        "mode": "chat",
    }
}
"""What aider wants to know of a model that it does not know; it would look for that on the network."""

CRUSH: Mapping[str, Any] = {
    "providers": {
        "claude-local": {
            "type": "anthropic",
            "base_url": "<url>",
            "api_key": "$ANTHROPIC_AUTH_TOKEN",
            "models": [
                {"id": "<model>", "name": "<model>", "context_window": "<window>", "default_max_tokens": "<output>"}
            ],
        },
        "anthropic": {"base_url": "<url>"},  # what it takes where it finds nothing else
    },
    "models": {
        "large": {"provider": "claude-local", "model": "<model>"},
        "small": {"provider": "claude-local", "model": "<model>"},
    },
    "options": {"disable_provider_auto_update": True, "disable_metrics": True},
}

VIBE_PROVIDER: Mapping[str, Any] = {
    "name": "claude-local",
    "api_base": "<url>",
    "api_key_env_var": "ANTHROPIC_AUTH_TOKEN",
    "api_style": "anthropic",
    "backend": "generic",
}
VIBE_MODEL: Mapping[str, Any] = {
    "name": "<model>",
    "provider": "claude-local",
    "alias": "<model>",
    "max_context_length": "<window>",
    "max_output_tokens": "<output>",
}
