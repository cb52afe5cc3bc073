"""The peers in Python: its own modules, and the libraries that people start workers with.

Each is a context manager that yields once(): one call, which returns the line, and what is to be tidied up outside of the time.
"""

import contextlib
import os
import tempfile

from bench import bare
from bench.peer import PYTHON, SAME, Peer
from bench.work import CALL, MODULES, send
from bench.world import environment


def _process(method, preload=False):
    @contextlib.contextmanager
    def peer(work):
        import multiprocessing

        context = multiprocessing.get_context(method)
        if preload:
            context.set_forkserver_preload(MODULES[work] + ["bench.work"])
        if method == "fork" and preload:
            CALL[work]()  # in the session's own process, of which children are copies

        def once():
            here, there = context.Pipe(duplex=False)
            p = context.Process(target=send, args=(there, work))
            p.start()
            line = here.recv()

            def tidy():
                p.join()
                p.close()
                here.close()
                there.close()

            return line, tidy

        yield once

    return peer


@contextlib.contextmanager
def _subprocess(work):
    import subprocess

    argv = bare.command(work)
    env = environment()

    def once():
        p = subprocess.Popen(argv, stdout=subprocess.PIPE, env=env)
        return p.stdout.readline().decode().strip(), p.communicate

    yield once


def _loky(warm):
    @contextlib.contextmanager
    def peer(work):
        from joblib import Parallel, delayed
        from joblib.externals.loky import get_reusable_executor

        def end():
            get_reusable_executor().shutdown(wait=True, kill_workers=True)

        def once():
            # Two workers: with one, joblib does the work in the session's process.
            (line,) = Parallel(n_jobs=2, backend="loky")([delayed(CALL[work])()])
            return line, None if warm else end

        yield once
        end()

    return peer


def _ipyparallel(warm):
    @contextlib.contextmanager
    def peer(work):
        import ipyparallel

        with tempfile.TemporaryDirectory() as folder:
            os.environ["IPYTHONDIR"] = folder

            def begin():
                cluster = ipyparallel.Cluster(n=1, log_level=40)
                return cluster, cluster.start_and_connect_sync(activate=False)

            def end(cluster, client):
                client.close()
                cluster.stop_cluster_sync()

            if not warm:

                def once():
                    cluster, client = begin()
                    return client[:].apply_sync(CALL[work])[0], lambda: end(cluster, client)

                yield once
                return
            cluster, client = begin()
            view = client[:]
            yield lambda: (view.apply_sync(CALL[work])[0], None)
            end(cluster, client)

    return peer


def _dask(warm):
    @contextlib.contextmanager
    def peer(work):
        import logging

        from distributed import Client, LocalCluster

        logging.getLogger("distributed").setLevel(logging.ERROR)

        def begin():
            cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None)
            return cluster, Client(cluster)

        def end(cluster, client):
            client.close()
            cluster.close()

        if not warm:

            def once():
                cluster, client = begin()
                return client.submit(CALL[work], pure=False).result(), lambda: end(cluster, client)

            yield once
            return
        cluster, client = begin()
        yield lambda: (client.submit(CALL[work], pure=False).result(), None)
        end(cluster, client)

    return peer


def _ray(what):
    @contextlib.contextmanager
    def peer(work):
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        import ray

        def begin():
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

        call = CALL[work]
        if what == "start":

            def once():
                begin()
                return ray.get(ray.remote(call).remote()), ray.shutdown

            yield once
            return
        begin()
        task = ray.remote(call)
        ray.get(task.remote())

        class Actor:
            def line(self):
                return call()

        remote = ray.remote(num_cpus=0)(Actor)

        def actor():
            a = remote.remote()
            return ray.get(a.line.remote()), lambda: ray.kill(a)

        yield actor if what == "actor" else lambda: (ray.get(task.remote()), None)
        ray.shutdown()

    return peer


PEERS = [
    Peer("subprocess", "subprocess, a bare interpreter", "", True, SAME, _subprocess, works=PYTHON + ("r", "scala"), tiny=True),
    Peer("spawn", "multiprocessing, spawn", "", True, SAME, _process("spawn"), tiny=True),
    Peer(
        "fork",
        "multiprocessing, fork",
        "imports: the session's own process",
        True,
        SAME + "; a copy of its state",
        _process("fork", True),
        tiny=True,
    ),
    Peer("forkserver", "multiprocessing, forkserver", "the fork server", True, SAME, _process("forkserver"), tiny=True),
    Peer(
        "forkserver-preload",
        "multiprocessing, forkserver with preload",
        "the fork server with the imports",
        True,
        SAME,
        _process("forkserver", True),
        tiny=True,
    ),
    Peer("loky-cold", "joblib (loky), new pool", "", True, SAME, _loky(False), "joblib", slow=True),
    Peer("loky-warm", "joblib (loky), warm pool", "the workers, with the imports", False, SAME, _loky(True), "joblib"),
    Peer("ipyparallel-start", "ipyparallel, cluster start", "", True, SAME, _ipyparallel(False), "ipyparallel", slow=True),
    Peer(
        "ipyparallel-warm",
        "ipyparallel, warm engine",
        "the engine, with the imports",
        False,
        SAME,
        _ipyparallel(True),
        "ipyparallel",
    ),
    Peer("dask-start", "Dask LocalCluster, start", "", True, SAME, _dask(False), "distributed", slow=True),
    Peer(
        "dask-warm", "Dask LocalCluster, warm worker", "the worker, with the imports", False, SAME, _dask(True), "distributed"
    ),
    Peer("ray-start", "Ray, init and first task", "", True, SAME, _ray("start"), "ray", slow=True),
    Peer("ray-actor", "Ray, new actor", "the cluster; processes that it starts ahead", True, SAME, _ray("actor"), "ray"),
    Peer("ray-warm", "Ray, task on a warm worker", "the worker, with the imports", False, SAME, _ray("task"), "ray"),
]
