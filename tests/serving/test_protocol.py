import json

import pytest

from genie.data.images import Codec
from genie.serving import protocol
from genie.serving.protocol import (
    AckMessage,
    BranchMessage,
    CloseMessage,
    IdleMessage,
    KeysMessage,
    PaceMessage,
    PauseMessage,
    PreviewMessage,
    ProtocolError,
    SamplingMessage,
    SaveMessage,
    StartMessage,
    StepMessage,
    SwitchMessage,
    UndoMessage,
    VideoMessage,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"type":"start","seq":1,"prompt":2,"seed":3}',
            StartMessage(type="start", seq=1, prompt=2, seed=3),
        ),
        ('{"type":"start","seq":1,"prompt":2}', StartMessage(type="start", seq=1, prompt=2)),
        ('{"type":"keys","seq":9,"held":[3,1]}', KeysMessage(type="keys", seq=9, held=[3, 1])),
        ('{"type":"idle","action":null}', IdleMessage(type="idle", action=None)),
        ('{"type":"pause","paused":true}', PauseMessage(type="pause", paused=True)),
        ('{"type":"pace","every":4}', PaceMessage(type="pace", every=4)),
        ('{"type":"ack","frame":7}', AckMessage(type="ack", frame=7)),
        ('{"type":"step","seq":2,"action":1}', StepMessage(type="step", seq=2, action=1)),
        ('{"type":"undo","seq":2}', UndoMessage(type="undo", seq=2, steps=1)),
        ('{"type":"branch"}', BranchMessage(type="branch")),
        ('{"type":"switch","game":1}', SwitchMessage(type="switch", game=1)),
        ('{"type":"close","game":1}', CloseMessage(type="close", game=1)),
        ('{"type":"peek","steps":4}', PreviewMessage(type="peek", steps=4)),
        ('{"type":"save"}', SaveMessage(type="save")),
        ('{"type":"film","format":"gif"}', VideoMessage(type="film", format="gif")),
        (
            '{"type":"sampling","steps":null,"temperature":0.5}',
            SamplingMessage(type="sampling", steps=None, temperature=0.5),
        ),
        (
            '{"type":"start","seq":1,"prompt":["iVBO"],"actions":[1,2]}',
            StartMessage(type="start", seq=1, prompt=["iVBO"], actions=[1, 2]),
        ),
    ],
)
def test_messages_are_parsed(text, message):
    assert protocol.parse(text) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        '{"type":"quit"}',
        '{"type":"ack"}',
        '{"type":"ack","frame":-1}',
        '{"type":"ack","frame":4294967296}',
        '{"type":"ack","frame":"1"}',
        '{"type":"ack","frame":1,"more":2}',
        '{"type":"keys","seq":1,"held":[1.5]}',
        '{"type":"keys","seq":1,"held":' + json.dumps([0] * 65) + "}",
        '{"type":"start","seq":1,"prompt":0,"seed":-1}',
        '{"type":"ack","frame":' + " " * 2000 + "1}",
        '{"type":"ack","frame":"\ud800"}',
        "[" * 1000,
        '{"type":"undo","seq":1,"steps":0}',
        '{"type":"peek","steps":9}',
        '{"type":"film","format":"exe"}',
        '{"type":"sampling","steps":33,"temperature":null}',
        '{"type":"sampling","steps":null,"temperature":NaN}',
        '{"type":"start","seq":1,"prompt":[]}',
        '{"type":"start","seq":1,"prompt":["' + "x" * 2**18 + '"]}',
        '{"type":"film","format":"mp4"' + " " * 1024 + "}",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ProtocolError):
        protocol.parse(text)


def test_a_frame_message_is_the_documented_header_and_the_picture():
    packet = protocol.pack(5, 6, 7, 8.5, (Codec.JPEG, b"picture"))
    header = b"\x02\x02\x00\x00" + b"\x05\0\0\0" + b"\x06\0\0\0" + b"\x07\0\0\0" + b"\0\0\x08\x41"
    assert packet == header + b"picture"


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"type": "start", "seq": 1, "prompt": 0}, 1),
        ({"type": "start", "seq": 1, "prompt": ["a"] * 12, "actions": [0] * 5000}, 12.5),
        ({"type": "peek", "steps": 4}, 4),
        ({"type": "save"}, 1),
        ({"type": "keys", "seq": 1, "held": [1]}, 0),
    ],
)
def test_messages_cost_the_work_that_they_cause(fields, cost):
    assert protocol.message_cost(protocol.parse(json.dumps(fields))) == cost


def test_the_length_of_a_message_is_counted_in_bytes():
    text = json.dumps({"type": "start", "seq": 1, "prompt": ["é" * 30]}, ensure_ascii=False)
    protocol.parse(text, most_bytes=len(text.encode()))
    with pytest.raises(ProtocolError, match="bytes long"):
        protocol.parse(text, most_bytes=len(text))
