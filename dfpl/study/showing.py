"""The records of a study in an Optuna storage, written at once: after a study, or beside one."""

import optuna

from dfpl.fields import ConfigError
from dfpl.study.objective import Objective
from dfpl.study.records import RecordStore
from dfpl.study.searcher import frozen
from dfpl.study.space import distributions, read_space
from dfpl.study.suggestion import Suggestion, ended
from dfpl.study.view import View, shown


def write(store: RecordStore, url: str) -> list[str]:
    """Write each search of a study as an Optuna study, in place of what was there of that name;
    returns their names. A trial that has not ended is shown as running."""
    facts = store.root.read_json("study.json") if store.root.exists("study.json") else {}
    if "space" not in facts:
        raise ConfigError(f"no search in {store.root} (looked for its space in study.json)")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    objective, space = Objective.of(facts), distributions(read_space(facts["space"]))
    searches: dict[str, dict[str, optuna.trial.FrozenTrial]] = {}
    for one in Suggestion.read_all(store.root):
        found = ended(one, objective, store)
        trial = frozen(one, found, space)
        searches.setdefault(one.search, {})[one.name] = trial
    view = View(url, store.name, lambda text: None)
    for search, trials in searches.items():
        view.opened(search, 2 if objective.several else 1, trials)
    if view.trouble:
        raise ConfigError(f"the Optuna storage {shown(url)} cannot be written: {view.trouble}")
    return [f"{store.name}/{search}" for search in searches]
