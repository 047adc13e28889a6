"""What mlx computes on here, as one JSON line: `python -m sidecar.engine.device`. Loads no model."""

import json
from importlib.metadata import version

import mlx.core as mx

from sidecar.engine import kernels


def main() -> None:
    about = mx.device_info()
    without = kernels.try_out()
    # A compiled kernel and a product: what does not fit here lets everything load, and fails at the first of these.
    product = mx.compile(lambda x: mx.matmul(kernels.fused(x), x))(mx.ones((64, 64)))
    mx.eval(product)
    print(
        json.dumps(
            {
                "mlx": version("mlx"),
                "mlx_lm": version("mlx-lm"),
                "device": mx.default_device().type.name,
                "name": about.get("device_name", ""),
                "without_kernels": without,
                "right": product[0, 0].item() == 192.0,
            }
        )
    )


if __name__ == "__main__":
    main()
