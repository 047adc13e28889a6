"""What mlx computes on here, as one JSON line: `python -m sidecar.engine.device`. Loads no model."""

import json
from importlib.metadata import version

import mlx.core as mx


def main() -> None:
    about = mx.device_info()
    # A product, since a driver that does not fit lets everything load and then fails at the first kernel.
    product = mx.matmul(mx.ones((64, 64)), mx.ones((64, 64)))
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
