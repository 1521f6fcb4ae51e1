"""Writes the Grafana dashboards from the tables in `monitoring/boards`.

python -m monitoring.generate            writes the files
python -m monitoring.generate --check    exits with 1 if they are not what it would write
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from monitoring.boards import camera, fleet, gateway, operator_and_gpu

FOLDER = Path(__file__).resolve().parent / "dashboards"
DASHBOARDS = {
    "fleet": fleet.DASHBOARD,
    "camera": camera.DASHBOARD,
    "gateway": gateway.DASHBOARD,
    "operator": operator_and_gpu.DASHBOARD,
}


def documents() -> dict[Path, str]:
    """The text that each file should have."""
    return {
        FOLDER / f"{name}.json": json.dumps(dashboard.document(), indent=2, ensure_ascii=False) + "\n"
        for name, dashboard in DASHBOARDS.items()
    }


def main() -> int:
    """Write what is stale, or name it with `--check`."""
    check = "--check" in sys.argv[1:]
    stale = {p: text for p, text in documents().items() if not p.exists() or p.read_text() != text}
    for path, text in stale.items():
        print(f"{'stale' if check else 'written'}: {path.relative_to(FOLDER.parents[1])}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
