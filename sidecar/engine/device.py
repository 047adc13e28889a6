"""What mlx computes on here, as one JSON line: `python -m sidecar.engine.device`. Loads no model."""

import json
from importlib.metadata import version

import mlx.core as mx


def main() -> None:
    about = mx.device_info()
    # A kernel of its own and a product: what does not fit here lets everything load, and fails at the first of these.
    product = mx.compile(lambda x: mx.matmul(x * 1.0 + 0.0, x))(mx.ones((64, 64)))
    mx.eval(product)
    print(
        json.dumps(
            {
                "mlx": version("mlx"),
                "mlx_lm": version("mlx-lm"),
                "device": mx.default_device().type.name,
                "name": about.get("device_name", ""),
                "right": product[0, 0].item() == 64.0,
            }
        )
    )


if __name__ == "__main__":
    main()
