"""How the Temporal UI's list of executions looks to somebody who has not arranged it."""

import json

from siaran.search_attributes import CAMPAIGN, DEVICE, STATUS, USER
from siaran.temporal_ui import OWNED, WAITING

COLUMNS = ("Status", STATUS.name, CAMPAIGN.name, "Workflow ID", USER.name, "Start", "End", "Type", DEVICE.name)
"""Labels as the UI knows them; search attributes go by their names. The first few are all that a narrow window shows."""

UI_COLUMNS = ("Status", "Workflow ID", "Run ID", "Type", "Start", "End")
"""What the UI shows of itself; it keeps these too as soon as somebody arranges the columns of another namespace."""

VIEWS = {"Campaigns and lanes": OWNED, "Waiting": WAITING}
"""Names and queries that the list offers above itself."""

# The UI keeps both in the browser. What is there in another shape is of another release, and left alone.
SCRIPT = """\
(({namespace, columns, uiColumns, views}) => {
  const change = (key, set) => {
    try {
      const kept = JSON.parse(localStorage.getItem(key) ?? "{}");
      if (set(kept)) localStorage.setItem(key, JSON.stringify(kept));
    } catch (error) {
      console.warn("the list of executions is as the Temporal UI has it", error);
    }
  };
  change("namespace-workflow-table-columns", (kept) => {
    const labels = (kept[namespace] ?? []).map((column) => column.label);
    if (labels.length && labels.join() !== uiColumns.join()) return false;
    kept[namespace] = columns.map((label) => ({label}));
    return true;
  });
  change("saved-workflow-queries", (kept) => {
    if (namespace in kept) return false;
    kept[namespace] = views.map(([name, query], index) => ({id: `siaran-${index}`, name, query, type: "user"}));
    return true;
  });
})(%s);
"""


def columns_script(namespace: str) -> str:
    """A script that arranges a namespace's list in the browser that runs it, unless its user has done so."""
    choice = {"namespace": namespace, "columns": COLUMNS, "uiColumns": UI_COLUMNS, "views": list(VIEWS.items())}
    return SCRIPT % json.dumps(choice).replace("<", "\\u003c")
