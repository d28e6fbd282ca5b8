"""No other search exists: every way to one, and every way out for a template, is counted against a list.

A search has two beginnings: a booking that an officer photographs, and a case packet that two people signed. This file
reads the device's own code for calls, its sockets for what they can be asked, and its schemas for what they can say. A
new way fails here until somebody has decided about it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from booking_room import REPOSITORY
from pydantic import BaseModel

from turnkey.booth_socket import CONSOLE_RIGHTS, OFFICER_RIGHTS, Errand, Said
from turnkey.leads.packet import PictureKind
from turnkey.leads.policy import Policy
from turnkey.leads.records import schemas
from turnkey.notary.wire import Reply
from turnkey.pack_socket import Export as PackExport
from turnkey.pack_socket import Import as PackImport
from turnkey.pack_socket import PackProgress, PackSaid
from turnkey.packet_socket import RIGHT, PacketSaid
from turnkey.uplink.topics import Kind

DEVICE = REPOSITORY / "device" / "turnkey"


def modules(folder: Path = DEVICE) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield str(path.relative_to(DEVICE)), ast.parse(path.read_text())


def callers(method: str, of: tuple[str, ...]) -> set[str]:
    """Files with a call `….<one of "of">.method(…)`, leading underscores left out."""
    found = set()
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
                owner = node.func.value
                last = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
                if last.lstrip("_") in of:
                    found.add(name)
    return found


def makers(record: str) -> set[str]:
    """Files that make a `record`."""
    return {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == record
    }


def calls(tree: ast.Module) -> set[str]:
    """Functions that a file calls by their name alone."""
    found = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.id for function in found if isinstance(function, ast.Name)}


def imports(tree: ast.Module) -> set[str]:
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


def test_the_gallery_is_searched_in_one_place_for_a_booking_or_a_packet() -> None:
    assert callers("search", ("gallery",)) == {"gallery_steps.py"}
    assert callers("search", ("steps",)) == {"booth.py", "casework.py"}
    assert makers("Searched") == {"gallery_steps.py"}


def test_a_lead_is_drafted_in_one_place_and_signed_in_one() -> None:
    assert makers("LeadDraft") == {"gallery_steps.py"}
    assert makers("Lead") == {"notary/notary.py"}


def test_a_booking_begins_at_the_desk_and_a_packet_at_its_command() -> None:
    assert callers("book", ("booth",)) == {"cli.py", "booth_desk.py"}
    assert callers("book", ("desk",)) == {"booth_socket.py", "console_rooms.py"}
    assert callers("apply", ("casework",)) == {"commands/case.py", "packet_socket.py"}


def test_the_booths_sockets_can_be_asked_for_this_and_nothing_else() -> None:
    assert set(get_args(Errand.model_fields["ask"].annotation)) == {"book", "enrol-case"}
    assert set(Errand.model_fields) == {"ask", "number"}, "one number is one piece of work: there is no batch"
    assert frozenset({"book", "enrol-case"}) >= OFFICER_RIGHTS
    assert frozenset({"book", "look"}) >= CONSOLE_RIGHTS
    assert RIGHT == "apply"
    assert set(PackExport.model_fields) == {"ask", "order", "receiver"}, "what goes, and to whom, is in the order"
    assert set(PackImport.model_fields) == {"ask"}


def test_no_room_beside_the_booths_way_knows_the_gallery_and_the_preview_computes_no_template() -> None:
    for room in ("console", "update", "uplink", "interlock"):
        for name, tree in modules(DEVICE / room):
            used = imports(tree)
            assert not [module for module in used if module.startswith("turnkey.gallery")], name
            if room == "console":
                assert not used & {"turnkey.vision.embedder", "turnkey.vision.analyzer"}, name


def test_only_a_photograph_is_searched() -> None:
    assert set(get_args(PictureKind)) == {"photograph", "sketch", "composite", "video-frame"}
    assert not [name for name in Policy.model_fields if "video" in name or "sketch" in name or "live" in name]


def test_a_template_has_no_place_in_anything_that_leaves() -> None:
    documents: dict[str, Any] = dict(schemas())
    answers: tuple[type[BaseModel], ...] = (Said, PacketSaid, PackSaid, PackProgress, Reply)
    documents |= {model.__name__: model.model_json_schema(mode="serialization") for model in answers}
    for name, document in documents.items():
        for place, part in parts(document):
            if part.get("type") == "array" and isinstance(part.get("items"), dict):
                assert part["items"].get("type") not in {"number", "integer"}, f"{name}{place}: a row of numbers"
            assert part.get("contentEncoding") is None, f"{name}{place}: bytes"
            assert part.get("format") not in {"binary", "byte", "base64"}, f"{name}{place}: bytes"
            for field in part.get("properties", {}):
                words = set(field.split("_"))
                assert not words & {"template", "embedding", "picture", "pixels", "frame", "jpeg"}, f"{name}: {field}"


def test_what_is_published_is_a_lead_or_an_attestation() -> None:
    assert {str(kind).split("/")[0] for kind in Kind} == {"lead", "attestation"}


def test_whoever_reads_rows_outside_the_gallery_is_known_or_bound_by_the_policys_rule() -> None:
    known = {"device.py", "commands/gallery.py", "importing.py"}
    for name, tree in modules():
        if name.startswith("gallery/") or name in known or "turnkey.gallery.store" not in imports(tree):
            continue
        assert "judge_order" in calls(tree), f"{name}: reads templates, and does not ask the policy's two-person rule"


def test_packs_are_made_and_taken_in_one_place_each_which_asks_the_policys_rule() -> None:
    trees = dict(modules())
    for made, where in (("PackWriter", "pack_export.py"), ("PackReader", "pack_import.py")):
        assert makers(made) == {where}
        assert "judge_order" in calls(trees[where])
    judging = trees["leads/template_pack.py"]
    assert "template_packs" in {node.attr for node in ast.walk(judging) if isinstance(node, ast.Attribute)}
    assert "signed_by_two" in calls(judging)
    assert {name for name, tree in trees.items() if {"export_pack", "import_pack"} & calls(tree)} == {"pack_socket.py"}
    assert makers("PackExported") == {"notary/notary.py"}, "nobody else says that one was made"


def parts(document: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a JSON document, with its place."""
    if isinstance(document, dict):
        yield place, document
        for key, value in document.items():
            yield from parts(value, f"{place}/{key}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from parts(value, f"{place}/{index}")
