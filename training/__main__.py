"""
`vae-train`, or `python -m training`: one subcommand a step.

    vae-train schema rows.csv --output schema.toml
    vae-train fit --data rows.csv --output models/pumps
    torchrun --nproc-per-node 2 -m training fit --data rows.csv --output models/pumps
    vae-train evaluate --bundle models/pumps --data rows.csv
    vae-train calibrate --bundle models/pumps --data normals.csv
    vae-train report --bundle models/pumps --data rows.csv
    vae-train export --checkpoint models/pumps/checkpoint-1.npz --output models/pumps --data rows.csv

What goes wrong through data or options ends as one line on stderr and exit status 2.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from service.errors import StartError
from training.errors import Interrupted, TrainingError
from training.flags.fit import require_agreeing
from training.flags.parser import parser

_EXTRA = "the extra training brings it: make .venv/.dev in a clone, or pip install -c constraints.txt '.[training]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run one step, and say in one line what the user must change, if anything."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    options.arguments = given
    try:
        if options.command == "fit":
            require_agreeing(options)
        # only now, so that --help need not wait for PyTorch, and evaluate, calibrate and report do without it
        importlib.import_module(f"training.steps.{options.command}").run(options)
    except Interrupted as error:
        if str(error):
            print(f"vae-train {options.command}: {error}", file=sys.stderr)
        return 128 + error.signal
    except (TrainingError, StartError, OSError) as error:
        print(f"vae-train {options.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "service", "training"):
            raise
        print(f"vae-train {options.command}: {missing} is not installed; {_EXTRA}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"vae-train {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
