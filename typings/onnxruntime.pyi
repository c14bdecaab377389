"""The part of onnxruntime that we use; it ships no types of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

class NodeArg:
    name: str
    shape: list[int | str | None]
    type: str

class SessionOptions:
    enable_mem_pattern: bool
    inter_op_num_threads: int
    intra_op_num_threads: int
    log_severity_level: int
    def add_session_config_entry(self, key: str, value: str, /) -> None: ...

class InferenceSession:
    def __init__(
        self, path_or_bytes: str, sess_options: SessionOptions, *, providers: Sequence[str]
    ) -> None: ...
    def get_inputs(self) -> Sequence[NodeArg]: ...
    def get_outputs(self) -> Sequence[NodeArg]: ...
    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, NDArray[Any]], /
    ) -> Sequence[NDArray[Any]]: ...
