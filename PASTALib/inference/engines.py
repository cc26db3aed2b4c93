"""Ways of running the network on a window: torch in fp32 or half precision, OpenVINO, ONNX Runtime. Which is best is for ``engine_choice``.

All return channels-last feature maps or logits, see ``sliding.Engine``. On a CPU torch runs a rearranged copy of the network: channels-last
memory, oneDNN's convolution called directly (torch takes a slow path for single-channel input), and group normalisation with one channel
per group, which is instance normalisation but three times faster in this memory layout.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import os
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ..errors import InputError
from ..networks.unet import SLOPE, ConvUnit, PastaNet
from .devices import cpu_has_bf16

TORCH_FP32, TORCH_HALF, TORCH_BF16 = "torch-fp32", "torch-half", "torch-bf16"
OPENVINO_FP32, OPENVINO_BF16, ONNX_FP32 = "openvino-fp32", "openvino-bf16", "onnx-fp32"
EXACT = (TORCH_FP32, OPENVINO_FP32, ONNX_FP32)  # full single precision
NAMES = (TORCH_FP32, TORCH_BF16, OPENVINO_FP32, OPENVINO_BF16, ONNX_FP32, TORCH_HALF)
_WAIT_MS = 100  # how often a running OpenVINO request looks whether it has been cancelled
Check = Callable[[], None]


def available(device: torch.device) -> tuple[str, ...]:
    """Names of the engines that can run here: on a GPU torch alone, on a CPU what is installed and what the processor can do."""
    if device.type != "cpu":
        return (TORCH_HALF, TORCH_FP32)
    bf16 = cpu_has_bf16()
    names = [TORCH_FP32]
    names += [TORCH_BF16] if bf16 else []
    if importlib.util.find_spec("openvino"):
        names += [OPENVINO_FP32] + ([OPENVINO_BF16] if bf16 else [])
    if all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx", "onnxscript")):
        names.append(ONNX_FP32)
    return tuple(names)


def make_engine(
    name: str,
    network: PastaNet,
    patch: tuple[int, int, int],
    device: torch.device,
    *,
    sum_features: bool | None = None,
    cache: Path | None = None,
):
    """The engine called ``name`` for windows of ``patch`` voxels.

    ``sum_features``: return features and leave the last layer to the caller; by default where that is less work. ``cache``: file stem
    under which a converted model is kept and found again. InputError when the engine is not to be had here.
    """
    if name not in available(device):
        raise InputError(
            f"engine {name!r} is not available on {device}; use one of {', '.join(available(device))}, or auto"
        )
    wrapped = _Output(network, features_suffice(network) if sum_features is None else sum_features)
    if name.startswith("openvino"):
        return OpenVinoEngine(name, wrapped, patch, cache)
    if name == ONNX_FP32:
        return OnnxEngine(name, wrapped, patch, cache)
    return TorchEngine(name, wrapped, device)


def features_suffice(network: PastaNet) -> bool:
    """Whether summing features instead of logits is possible (no bias, which would need the weights' sum) and less work."""
    head = network.seg_outputs[-1]
    return head.bias is None and head.in_channels <= head.out_channels


class _Output(nn.Module):
    """``(1, 1, z, y, x)`` -> ``(1, z, y, x, channels)`` features before the last layer, or logits."""

    def __init__(self, network: PastaNet, sum_features: bool):
        super().__init__()
        self.network, self.sum_features = network, sum_features
        last = network.seg_outputs[-1]
        self.classes = last.out_channels
        self.channels = last.in_channels if sum_features else last.out_channels
        self.head = last.weight.detach().float().reshape(last.out_channels, -1).T.contiguous() if sum_features else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.network.decode(x)[-1]
        return (maps if self.sum_features else self.network.seg_outputs[-1](maps)).permute(0, 2, 3, 4, 1)


class _Engine:
    def __init__(self, name: str, wrapped: _Output, device: torch.device):
        self.name, self.device = name, device
        self.channels, self.classes, self.head = wrapped.channels, wrapped.classes, wrapped.head


class TorchEngine(_Engine):
    """torch: fp32 or bf16 on the CPU, fp32 or half precision (bf16 where the card has it, else fp16) on a GPU."""

    def __init__(self, name: str, wrapped: _Output, device: torch.device):
        super().__init__(name, wrapped, device)
        self._check: Check = lambda: None
        self._autocast = None
        wrapped = copy.deepcopy(wrapped).eval().requires_grad_(False)
        if device.type == "cpu":
            _rearrange(wrapped)
            self._dtype = torch.bfloat16 if name == TORCH_BF16 else torch.float32
            wrapped = wrapped.to(self._dtype)
        else:
            self._dtype = torch.float32
            if name == TORCH_HALF:
                bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
                self._autocast = torch.bfloat16 if bf16 else torch.float16
        self._module = wrapped.to(device, memory_format=torch.channels_last_3d)
        for module in self._module.modules():
            if isinstance(module, (ConvUnit, _CpuUnit)):
                module.register_forward_pre_hook(
                    lambda *_: self._check()
                )  # cancelling need not wait for a whole window

    def run(self, window: torch.Tensor, check: Check) -> torch.Tensor:
        self._check = check
        x = window[None, None].to(self.device, self._dtype).contiguous(memory_format=torch.channels_last_3d)
        with torch.inference_mode():
            if self._autocast is None:
                return self._module(x)[0]
            with torch.autocast(self.device.type, self._autocast):
                return self._module(x)[0]


class _CpuUnit(nn.Module):
    """A ``ConvUnit`` for channels-last input on a CPU."""

    def __init__(self, unit: ConvUnit):
        super().__init__()
        self.conv, self.norm = unit.conv, unit.instnorm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = self.conv
        if torch.backends.mkldnn.is_available():
            x = torch.mkldnn_convolution(x, conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, 1)
        else:
            x = conv(x)
        x = nn.functional.group_norm(x, conv.out_channels, self.norm.weight, self.norm.bias, self.norm.eps)
        return nn.functional.leaky_relu_(x, SLOPE)


def _rearrange(module: nn.Module) -> None:
    """Replace every ``ConvUnit`` below ``module``."""
    for name, child in module.named_children():
        if isinstance(child, ConvUnit):
            setattr(module, name, _CpuUnit(child))
        else:
            _rearrange(child)


class OpenVinoEngine(_Engine):
    """OpenVINO on the CPU, in fp32 or bf16."""

    def __init__(self, name: str, wrapped: _Output, patch: tuple[int, int, int], cache: Path | None):
        super().__init__(name, wrapped, torch.device("cpu"))
        import openvino

        core = openvino.Core()
        file = cache.with_suffix(".xml") if cache else None
        model = _read_or_none(core, file)
        if model is None:
            with torch.inference_mode(False), torch.no_grad():
                example = torch.zeros(1, 1, *(min(side, 64) for side in patch))
                model = openvino.convert_model(wrapped.eval(), example_input=example, input=[1, 1, *patch])
            if file:
                _keep(file, lambda path: openvino.save_model(model, path, compress_to_fp16=False), also=(".bin",))
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if name == OPENVINO_BF16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(self, window: torch.Tensor, check: Check) -> torch.Tensor:
        self._request.start_async({0: window.numpy()[None, None]}, share_inputs=True)
        while not self._request.wait_for(_WAIT_MS):
            try:
                check()
            except BaseException:
                self._request.cancel()
                with contextlib.suppress(RuntimeError):  # it says that it was cancelled
                    self._request.wait()
                raise
        return torch.from_numpy(self._request.get_output_tensor(0).data)[0]


class OnnxEngine(_Engine):
    """ONNX Runtime on the CPU, fp32."""

    def __init__(self, name: str, wrapped: _Output, patch: tuple[int, int, int], cache: Path | None):
        super().__init__(name, wrapped, torch.device("cpu"))
        import onnxruntime

        self._runtime = onnxruntime
        file = cache.with_suffix(".onnx") if cache else None
        if file is None or not file.exists():
            with torch.inference_mode(False), torch.no_grad():
                program = torch.onnx.export(
                    wrapped.eval(), (torch.zeros(1, 1, *patch),), dynamo=True, verbose=False, external_data=False
                )
            if file:
                _keep(file, program.save)
            model = program.model_proto.SerializeToString()
        else:
            model = str(file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, window: torch.Tensor, check: Check) -> torch.Tensor:
        options = self._runtime.RunOptions()
        answer: dict = {}

        def work() -> None:
            try:
                answer["value"] = self._session.run(None, {self._input: window.numpy()[None, None]}, options)[0]
            except Exception as error:  # handed to the caller below
                answer["error"] = error

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_WAIT_MS / 1000)
            try:
                check()
            except BaseException:
                options.terminate = True
                thread.join()
                raise
        if "error" in answer:
            raise answer["error"]
        return torch.from_numpy(answer["value"])[0]


def _read_or_none(core, file: Path | None):
    """A converted model kept earlier; None when there is none or it does not read."""
    if file is None or not file.exists():
        return None
    try:
        return core.read_model(file)
    except RuntimeError:
        return None


def _keep(file: Path, save: Callable[[str], None], also: tuple[str, ...] = ()) -> None:
    """Save a converted model, complete or not at all. A cache that cannot be written (full disk) is no reason to stop."""
    temporary = file.with_name(f"{os.getpid()}-{threading.get_ident()}-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save(str(temporary))
        for suffix in also:  # the weights first: the main file is what counts as present
            os.replace(temporary.with_suffix(suffix), file.with_suffix(suffix))
        os.replace(temporary, file)
    except (OSError, RuntimeError):
        for suffix in (file.suffix, *also):
            with contextlib.suppress(OSError):
                temporary.with_suffix(suffix).unlink(missing_ok=True)
