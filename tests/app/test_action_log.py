"""The confirmation and the log of destructive actions."""

import ast
import json
import threading
from pathlib import Path

import pytest

from app.components import action_log
from app.components.action_log import log_action
from bc_model.data.registry import link_folder

APP = Path(action_log.__file__).parents[1]

DESTRUCTIVE = {
    "delete_download", "delete_experiment", "delete_job", "remove_dataset", "remove_fold_files",
}  # fmt: skip
"""Functions of the library that delete what cannot be restored."""
GUARDED = {
    "show_confirmed_button": {*DESTRUCTIVE, "cancel_job", "stop_job"},
    "perform_logged": {"cancel_download", "set_threshold"},
}
"""Functions of the library that the app calls only in actions of these functions."""


def find_unguarded(source: str, guard: str) -> list[str]:
    """Return the functions of `GUARDED` outside of the actions of the guard.

    An action is a lambda or a local function, so each use is compared with the lambdas among the
    arguments of these calls, and with the functions that the arguments name.
    """
    tree = ast.parse(source)
    guarded: set[ast.AST] = set()
    names = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == guard:
            for argument in call.args:
                nodes = set(ast.walk(argument))
                names |= {node.id for node in nodes if isinstance(node, ast.Name)}
                guarded |= nodes if isinstance(argument, ast.Lambda) else set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name in names:
            guarded |= set(ast.walk(function))
    return [
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in GUARDED[guard] and node not in guarded
    ]


@pytest.mark.parametrize("guard", GUARDED)
def test_every_action_that_cannot_be_undone_is_guarded(guard: str) -> None:
    sources = {file: file.read_text(encoding="utf-8") for file in sorted(APP.rglob("*.py"))}
    unguarded = {file.name: find_unguarded(text, guard) for file, text in sources.items()}
    assert {name: found for name, found in unguarded.items() if found} == {}
    names = GUARDED[guard]
    assert {name for name in names if any(f"{name}(" in s for s in sources.values())} == names


def test_destructive_actions_of_the_library_are_listed() -> None:
    import bc_model.data
    import bc_model.experiments
    import bc_model.jobs

    names = {*bc_model.data.__all__, *bc_model.experiments.__all__, *dir(bc_model.jobs)}
    assert {name for name in names if name.startswith(("delete_", "remove_"))} == DESTRUCTIVE


def test_every_logged_action_is_documented() -> None:
    text = (APP.parent / "docs/deployment.md").read_text(encoding="utf-8")
    names = set()
    for file in APP.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call):
                position = {"show_confirmed_button": 2, "perform_logged": 0}
                argument = position.get(ast.unparse(call.func))
                if argument is not None and isinstance(call.args[argument], ast.Constant):
                    names.add(call.args[argument].value)
    assert len(names) == 11
    assert {name for name in names if f'"{name}"' not in " ".join(text.split())} == set()


@pytest.mark.parametrize(
    "source",
    [
        "st.button('Remove', on_click=remove_dataset)",
        "show_action_button('Delete', 'delete', lambda: delete_job(run))",
        "def other(): delete_job(run)\nshow_confirmed_button('a', 'b', 'c', delete)",
    ],
)
def test_find_unguarded_finds_other_uses(source: str) -> None:
    assert len(find_unguarded(source, "show_confirmed_button")) == 1


def test_button_of_a_confirmation_belongs_to_its_target(
    synthetic_dataset, runs, registry, synthetic, open_page
) -> None:
    """A click that arrives after the selection has changed must not delete something else."""
    link_folder(synthetic_dataset, "other", registry)
    app = open_page("data", dataset="synthetic")
    assert app.button(key="remove-dataset:synthetic")
    app.selectbox(key="dataset").set_value("other").run()
    keys = {button.key for button in app.button}
    assert "remove-dataset:other" in keys
    assert "remove-dataset:synthetic" not in keys


def test_removed_dataset_is_in_the_log(runs, registry, synthetic, open_page) -> None:
    app = open_page("data", dataset="synthetic")
    app.button(key="remove-dataset:synthetic").click().run()
    assert not (registry / "synthetic").exists()
    (line,) = (runs / "actions.log").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["action"], entry["target"]) == ("Remove dataset", "synthetic")
    assert entry["time"].endswith("+00:00")
    assert len(entry["session"]) == 12


def test_failed_action_is_in_the_log(runs, registry, synthetic, open_page) -> None:
    app = open_page("data", dataset="synthetic")
    (registry / "synthetic/dataset.json").unlink()
    app.button(key="remove-dataset:synthetic").click().run()
    first, second = map(json.loads, (runs / "actions.log").read_text().splitlines())
    assert "error" not in first
    assert "cannot be removed" in second["error"]
    assert "cannot be removed" in app.error[0].value


def test_action_is_performed_although_the_log_cannot_be_written(
    runs, registry, synthetic, open_page, caplog
) -> None:
    """To delete may be the remedy for a full disk."""
    (runs / "actions.log").mkdir()
    open_page("data", dataset="synthetic").button(key="remove-dataset:synthetic").click().run()
    assert not (registry / "synthetic").exists()
    assert '"target": "synthetic"' in caplog.text


def test_log_of_many_threads_has_complete_lines(runs: Path) -> None:
    name = "run\n\u2028" + "x" * 200
    threads = [
        threading.Thread(target=lambda: [log_action("Delete run", name) for _ in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (runs / "actions.log").read_text().splitlines()
    assert len(lines) == 400
    assert all(json.loads(line)["target"] == name for line in lines)


def test_log_does_not_contain_the_session_identifier(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser returns to a session by its identifier."""
    context = type("Context", (), {"session_id": "secret-session"})
    monkeypatch.setattr(action_log, "get_script_run_ctx", lambda: context)
    log_action("Delete run", "a")
    log_action("Delete run", "b")
    text = (runs / "actions.log").read_text()
    assert "secret-session" not in text
    assert len({json.loads(line)["session"] for line in text.splitlines()}) == 1
