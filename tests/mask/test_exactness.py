"""The same bits for any number of threads, any split of the batch, AVX2 and AVX-512; no hang after fork."""

import multiprocessing
import threading

import fusedrop as fd
import numpy as np
import pytest
import threadpoolctl

RNG = fd.Philox(seed=3, stream=1, step=4)
OPTIONS = {"activation": "gelu", "p": 0.3, "input_p": 0.1, "rng": RNG}


def normal(*shape):
    return np.random.default_rng(shape[0]).standard_normal(shape, dtype=np.float32)


def run(M, K, N):
    x, w, b, dy = normal(M, K), normal(N, K), normal(N), normal(M, N)
    y, saved = fd.linear_forward(x, w, b, **OPTIONS)
    return y, *fd.linear_backward(dy, saved), fd.dropout(x, p=0.4, rng=RNG), fd.dropout_mask((M, N), p=0.4, rng=RNG)


@pytest.mark.parametrize("shape", [(300, 600, 70), (40, 700, 900), (1500, 40, 33), (65, 64, 2100)])
def test_any_number_of_threads(isa, threads, shape):
    threads(1)
    want = run(*shape)
    for n in (2, 3, 5, 8):
        threads(n)
        for a, b in zip(want, run(*shape), strict=True):
            assert a.tobytes() == b.tobytes()


def test_a_row_does_not_depend_on_its_batch(isa):
    """Row i of y and dx is the same alone, in any split of the batch, and in the whole (with its origin given)."""
    x, w, b, dy = normal(101, 530), normal(77, 530), normal(77), normal(101, 77)
    y, saved = fd.linear_forward(x, w, b, **OPTIONS)
    dx, _, _ = fd.linear_backward(dy, saved)
    for begin, end in [(0, 1), (17, 40), (100, 101), (3, 101)]:
        part, part_saved = fd.linear_forward(x[begin:end], w, b, **OPTIONS | {"rng": RNG.at(row0=begin)})
        assert part.tobytes() == y[begin:end].tobytes()
        assert fd.linear_backward(dy[begin:end], part_saved)[0].tobytes() == dx[begin:end].tobytes()


def test_columns_may_be_sharded(isa):
    x, w, b = normal(50, 40), normal(90, 40), normal(90)
    y = fd.linear(x, w, b, **OPTIONS)
    for begin, end in [(0, 32), (32, 90), (13, 57)]:
        part = fd.linear(x, w[begin:end], b[begin:end], **OPTIONS | {"rng": RNG.at(col0=begin)})
        assert part.tobytes() == y[:, begin:end].tobytes()


@pytest.mark.parametrize("activation", fd.activations)
def test_avx2_and_avx512_agree_to_the_bit(activation):
    if "avx512" not in fd.config.available_isas():
        pytest.skip("this CPU has no avx512")
    results = []
    before = fd.config.get_isa()
    for name in ("avx2", "avx512"):
        fd.config.set_isa(name)
        x, w, b, dy = normal(37, 600), normal(45, 600), normal(45), normal(37, 45)
        y, saved = fd.linear_forward(x, w, b, **OPTIONS | {"activation": activation})
        results.append((y, *fd.linear_backward(dy, saved)))
    fd.config.set_isa(before)
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()


def test_calls_from_many_python_threads(isa):
    """Kernels run without the GIL, and each thread has its own scratch memory."""
    want = run(120, 130, 140)
    wrong = []

    def work():
        for _ in range(5):
            if any(a.tobytes() != b.tobytes() for a, b in zip(want, run(120, 130, 140), strict=True)):
                wrong.append(threading.get_ident())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def _child(queue, shape):
    queue.put([a.tobytes() for a in run(*shape)])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of every fork with threads
@pytest.mark.filterwarnings("ignore:os.fork\\(\\) was called:RuntimeWarning")  # and JAX, where a test has imported it
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_forked_child_does_not_hang():
    """faiss#5206, LightGBM#4751: parent and child each use their own thread pool, before and after the fork."""
    shape = (400, 300, 300)
    want = [a.tobytes() for a in run(*shape)]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue, shape))
    child.start()
    try:
        got = queue.get(timeout=20)
        child.join(timeout=20)
        assert child.exitcode == 0
        assert got == want
    finally:
        child.kill()  # a child that hangs must not keep pytest from ending
    assert [a.tobytes() for a in run(*shape)] == want


def test_one_openmp_runtime_that_threadpoolctl_sees():
    run(64, 64, 64)
    runtimes = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "openmp"]
    assert any("gomp" in pool["filepath"] or "omp" in pool["filepath"] for pool in runtimes)
    with threadpoolctl.threadpool_limits(limits=1, user_api="openmp"):
        assert fd.config.get_num_threads() == 1
