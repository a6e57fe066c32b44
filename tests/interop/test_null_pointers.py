"""Arrays whose values are nowhere, a null pointer in DLPack, are refused; without elements they are good arrays."""

import ctypes

import fusedrop as fd
import numpy as np
import pytest

W = np.ones((3, 5), np.float32)
NO_VALUES = r"must have its values in memory; got \w+ \[4, 5\] without storage \(a null pointer\)"


class Tensor(ctypes.Structure):
    """DLTensor of dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class Managed(ctypes.Structure):
    """DLManagedTensor: version 0."""

    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class ManagedVersioned(ctypes.Structure):
    """DLManagedTensorVersioned: version 1."""

    _fields_ = (
        ("version", ctypes.c_uint32 * 2),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    )


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
NAMES = {Managed: b"dltensor", ManagedVersioned: b"dltensor_versioned"}
new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class HandMade:
    """A float32 array [*shape] in C order, by hand: at an address and an offset, or at no address."""

    def __init__(self, shape, address=None, offset=0, structure=Managed):
        self.released = 0
        self._deleter = DELETER(self._release)
        dims = (ctypes.c_int64 * len(shape))(*shape)
        tensor = Tensor(address, (1, 0), len(shape), 2, 32, 1, dims, None, offset)
        self.managed = structure(tensor=tensor, deleter=ctypes.cast(self._deleter, ctypes.c_void_p))
        if structure is ManagedVersioned:
            self.managed.version[0] = 1

    def _release(self, _):
        self.released += 1

    def __dlpack__(self, max_version=None):
        return new_capsule(ctypes.addressof(self.managed), NAMES[type(self.managed)], None)

    def __dlpack_device__(self):
        return (1, 0)


@pytest.fixture(params=[Managed, ManagedVersioned], ids=["version 0", "version 1"])
def structure(request):
    return request.param


def test_a_capsule_without_memory_is_refused_and_given_back(structure):
    for name, call in (
        ("x", lambda a: fd.linear(a, W)),
        ("w", lambda a: fd.linear(np.ones((2, 5), np.float32), a)),
        ("out", lambda a: fd.linear(np.ones((4, 5), np.float32), np.eye(5, dtype=np.float32), out=a)),
        ("x", lambda a: fd.dropout(a, p=0.0)),
        ("x", lambda a: fd.activate(a, "relu")),
    ):
        array = HandMade((4, 5), structure=structure)
        with pytest.raises(ValueError, match=f"^{name} {NO_VALUES}"):
            call(array)
        assert array.released == 1
    with pytest.raises(ValueError, match=r"^x must have its values in memory; got HandMade \[2, 3, 4, 4\]"):
        fd.max_pool2d(HandMade((2, 3, 4, 4), structure=structure), 2)


def test_an_offset_gives_a_null_pointer_no_memory(structure):
    with pytest.raises(ValueError, match=f"^x {NO_VALUES}"):
        fd.linear(HandMade((4, 5), offset=64, structure=structure), W)


def test_a_capsule_with_memory_is_read_at_its_offset(structure):
    memory = np.arange(64, dtype=np.float32)
    array = HandMade((4, 5), memory.ctypes.data, 16, structure)
    assert np.array_equal(fd.linear(array, W), fd.linear(memory[4:24].reshape(4, 5), W))
    assert array.released == 1


def test_without_elements_no_memory_is_needed(structure):
    assert fd.linear(HandMade((0, 5), structure=structure), W).shape == (0, 3)
    y, saved = fd.linear_forward(HandMade((0, 5), structure=structure), W)
    dx, dw, _ = fd.linear_backward(y, saved)
    assert dx.shape == (0, 5)
    assert np.array_equal(dw, np.zeros_like(W))
    assert fd.dropout(HandMade((3, 0, 2), structure=structure), p=0.0).shape == (3, 0, 2)


class TestTorch:
    """Tensors that PyTorch exports with a null pointer, or not at all."""

    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def wrapper(self):
        """A tensor around another one, as DTensor and quantized weights: it has a shape and no storage."""

        class Wrapper(self.torch.Tensor):
            @staticmethod
            def __new__(cls, inner):
                return self.torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

            def __init__(self, inner):
                self.inner = inner

            __torch_function__ = self.torch._C._disabled_torch_function_impl

            @classmethod
            def __torch_dispatch__(cls, function, types, arguments, options=None):
                return function(*(getattr(a, "inner", a) for a in arguments), **(options or {}))

        return Wrapper(self.torch.ones(4, 5))

    def freed(self):
        x = self.torch.ones(4, 5)
        x.untyped_storage().resize_(0)
        return x

    def zero(self):
        return self.torch._efficientzerotensor(4, 5)

    def fake(self):
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            return self.torch.ones(4, 5)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("make", ["wrapper", "freed", "zero", "fake"])
    def test_tensors_without_storage_are_refused(self, make):
        tensor = getattr(self, make)()
        ones = self.torch.ones
        with pytest.raises(ValueError, match=f"^x {NO_VALUES}"):
            fd.linear(tensor, ones(3, 5))
        with pytest.raises(ValueError, match=f"^w {NO_VALUES}"):
            fd.linear(ones(2, 5), tensor)
        with pytest.raises(ValueError, match=f"^out {NO_VALUES}"):
            fd.linear(ones(4, 5), ones(5, 5), out=tensor)
        with pytest.raises(ValueError, match=f"^dy {NO_VALUES}"):
            fd.linear_backward(tensor, fd.linear_forward(ones(4, 5), ones(5, 5))[1])
        with pytest.raises(ValueError, match=f"^dw {NO_VALUES}"):
            fd.linear_backward(ones(2, 4), fd.linear_forward(ones(2, 5), ones(4, 5))[1], dw=tensor)
        with pytest.raises(ValueError, match=f"^dy {NO_VALUES}"):
            fd.dropout_backward(tensor, fd.dropout_forward(ones(4, 5), p=0.0)[1])

    def test_tensors_on_no_device_are_refused(self):
        with pytest.raises(ValueError, match=r"^x must be an array that DLPack can share; got Tensor: .*meta"):
            fd.linear(self.torch.ones(4, 5, device="meta"), self.torch.ones(3, 5))
        with pytest.raises(ValueError, match=r"^w must be an array that DLPack can share; got Tensor: .*meta"):
            fd.linear(self.torch.ones(4, 5), self.torch.ones(3, 5, device="meta"))

    def test_tensors_without_elements_are_good(self):
        assert fd.linear(self.torch.ones(0, 5), self.torch.ones(3, 5)).shape == (0, 3)
        assert fd.linear(self.torch.ones(4, 0), self.torch.ones(3, 0)).tolist() == [[0.0] * 3] * 4
