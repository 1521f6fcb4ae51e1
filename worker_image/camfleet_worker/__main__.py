"""`python -m camfleet_worker`: settings as JSON in `CAMFLEET_WORKER_SETTINGS`, for development."""

import os
import sys

from camfleet_worker.main import run
from camfleet_worker.settings import WorkerSettings

sys.exit(run(WorkerSettings.model_validate_json(os.environ.get("CAMFLEET_WORKER_SETTINGS", "{}"))))
