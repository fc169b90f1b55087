"""Writes tests/fixtures/events/golden.tfevents with TensorBoard's own messages and record writer.

    python tests/golden/gen_events.py      (needs the package tensorboard)
"""
import os

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

events = [
    Event(wall_time=1.5, file_version="brain.Event:2"),
    Event(wall_time=1234.5, step=7, summary=Summary(value=[
        Summary.Value(tag="train/loss", simple_value=2.5),
        Summary.Value(tag="eval/old/kl", simple_value=-0.1)])),
    Event(wall_time=1e9 + 0.25, summary=Summary(value=[Summary.Value(tag="first", simple_value=0.0)])),
    Event(wall_time=2e9, step=3_000_000_000, summary=Summary(value=[
        Summary.Value(tag="long/" + "x" * 200, simple_value=1e-30)])),
]
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "events")
with open(os.path.join(folder, "golden.tfevents"), "wb") as f:
    writer = RecordWriter(f)
    for event in events:
        writer.write(event.SerializeToString())
    writer.flush()
