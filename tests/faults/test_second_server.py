"""Two servers on one data folder: the second says so and leaves the first alone."""

import subprocess

from guarded import Guarded
from server_process import KNOWLEDGED, environment


def test_a_second_server_on_the_same_data_is_refused(guarded: Guarded) -> None:
    settings = environment(data_dir=guarded.server.folder, port=0, metrics_port=0)
    second = subprocess.run(
        [KNOWLEDGED, "serve"], env=settings, capture_output=True, text=True, check=False
    )
    assert second.returncode == 2
    assert "another server already uses the data in" in second.stderr
    assert "KNOWLEDGED_DATA_DIR" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert guarded.server.is_running()
