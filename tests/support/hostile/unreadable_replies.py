"""Replies as a hostile node can store them at the SuperLink, and a grid that reads them as a deployment's does."""

import json

from fake_grid import FakeGrid
from flwr.app import ConfigRecord
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

DEPTH = 3000


class InflatingGrid(FakeGrid):
    """Reads the objects of each reply, as a deployment's grid does, after the SuperLink has deleted the reply.

    Args:
        nodes: as for a FakeGrid.
        changes: functions that change the objects of a node's replies, by node ID. They get the type of the reply's
            message, the bytes of the objects by ID, and the ID of the message among them.
    """

    def __init__(self, nodes, changes, **options):
        super().__init__(nodes, **options)
        self._changes = changes

    def pull_messages(self, message_ids):
        return [self._read(reply) for reply in super().pull_messages(message_ids)]

    def _read(self, reply):
        change = self._changes.get(reply.metadata.src_node_id)
        if change is None:
            return reply
        objects = {name: one.deflate() for name, one in get_all_nested_objects(reply).items()}
        top = reply.object_id
        change(reply.metadata.message_type, objects, top)
        read = inflate_object_from_contents(top, objects)
        read.metadata.__dict__["_message_id"] = top
        return read


def split_head(content):
    head, _, body = content.partition(b"\x00")
    kind, children, _ = head.decode().split(" ")
    return kind, children, body


def as_object(kind, children, body):
    return f"{kind} {children} {len(body)}".encode() + b"\x00" + body


def first(objects, kind):
    """The ID of the first object of a kind, and its parts."""
    name = next(name for name, content in objects.items() if split_head(content)[0] == kind)
    return name, *split_head(objects[name])


def with_body(kind, body):
    """A change that replaces the body of the first object of a kind; the head stays valid."""

    def change(objects, top):
        name, _, children, _ = first(objects, kind)
        objects[name] = as_object(kind, children, body)

    return change


def array_with(**changed):
    """A change of what the first Array says of itself."""

    def change(objects, top):
        name, kind, children, body = first(objects, "Array")
        objects[name] = as_object(kind, children, json.dumps({**json.loads(body), **changed}).encode())

    return change


def without_children(objects, top):
    """The tree names the objects, and none of their children: these are not fetched."""
    for name in [name for name, content in objects.items() if split_head(content)[0] in ("Array", "ArrayChunk")]:
        del objects[name]


def of_unknown_kind(objects, top):
    name, _, children, body = first(objects, "MetricRecord")
    objects[name] = as_object("Pickle", children, body)


def array_in_place_of_a_record(objects, top):
    array, *_ = first(objects, "Array")
    name, kind, *_ = first(objects, "RecordDict")
    objects[name] = as_object(kind, array, json.dumps({"arrays": array}).encode())


def no_message(objects, top):
    objects[top] = ConfigRecord({"name": "a"}).deflate()


def without_content(objects, top):
    kind, _, body = split_head(objects[top])
    objects[top] = as_object(kind, "", body)


def too_deep(objects, top):
    kind, _, body = split_head(objects[top])
    names = [f"{number:064d}" for number in range(DEPTH)]
    objects |= {
        name: as_object("RecordDict", child, json.dumps({"x": child}).encode())
        for name, child in zip(names, [*names[1:], top], strict=True)
    }
    objects[top] = as_object(kind, names[0], body)


# Flower's own reading raises for each of these.
UNREADABLE = {
    "an array's body is no JSON": with_body("Array", b"these bytes are no array"),
    "an array names a piece that it does not have": array_with(arraychunk_ids=[7]),
    "the tree has no children": without_children,
    "an object is of an unknown kind": of_unknown_kind,
    "a record dict holds an array": array_in_place_of_a_record,
    "a record dict's body is no object": with_body("RecordDict", b"[1, 2]"),
    "the metrics are no protobuf": with_body("MetricRecord", b"\xff" * 40),
    "the message is another kind of object": no_message,
    "the message has no content and no error": without_content,
    "the tree is too deep": too_deep,
}
# These are read, and their arrays cannot be.
ODD = {
    "a serialization type that is no text": array_with(stype=["numpy.ndarray"]),
    "a chunk of another array": with_body("ArrayChunk", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 9000),
}


def of_type(message_type, change):
    """A change of the replies to one type of message only."""

    def only(kind, objects, top):
        if kind == message_type:
            change(objects, top)

    return only
