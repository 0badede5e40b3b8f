"""Several processes that train together, forked from the test."""

import multiprocessing
import os
import pickle
import traceback

import pytest
import torch.distributed as dist


@pytest.fixture
def in_processes(tmp_path):
    """Call a function in each of N processes that are connected; return what each of them does.

    Forked processes need no imports, and see the test's fixtures and patches.
    """
    n_groups = 0

    def in_processes(function, n_processes=2):
        nonlocal n_groups
        n_groups += 1
        folder = tmp_path / f"group-{n_groups}"
        folder.mkdir()
        fork = multiprocessing.get_context("fork")
        started = [
            fork.Process(target=_in_one, args=(function, rank, n_processes, folder))
            for rank in range(n_processes)
        ]
        for one in started:
            one.start()
        for one in started:
            one.join(120)
            one.kill()  # it may wait for another one that has failed
        results = []
        for rank in range(n_processes):
            path = folder / f"result-{rank}"
            assert path.exists(), f"process {rank} of {n_processes} gave no result"
            is_right, result = pickle.loads(path.read_bytes())  # noqa: S301
            if not is_right:
                raise result
            results.append(result)
        return results

    return in_processes


def _in_one(function, rank, n_processes, folder):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=n_processes
        )
        result = (True, function())
    except BaseException as error:
        error.add_note(traceback.format_exc())
        result = (False, error)
    (folder / "partial").with_suffix(f".{rank}").write_bytes(pickle.dumps(result))
    (folder / "partial").with_suffix(f".{rank}").rename(folder / f"result-{rank}")
    os._exit(0)
