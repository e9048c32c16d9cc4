"""The page of all widgets that the tests open: a small stand-in for an app, as cells of a notebook."""

WAITING = (
    """
from meter_batch_analytics.widgets import Chart, Controls
controls = Controls([{"key": key, "kind": "button", "label": key} for key in ("Draw", "Empty", "Work")], {})
controls
""",
    """
chart = Chart(title="Energy", busy=True)
def changed(values, key):
    chart.busy = key == "Work"
    if key != "Work":
        chart.figure = {"data": [{"type": "bar", "x": [1, 2], "y": [3, 4]}]} if key == "Draw" else {}
controls.on_change(changed)
chart
""",
)

CELLS = (
    """
import os, sys, time
from urllib.parse import parse_qs
import numpy as np
from meter_batch_analytics.widgets import Chart, Controls, Figures, Notice, Table
query = parse_qs(os.environ["QUERY_STRING"])
zh = query.get("lang", ["en"])[0] == "zh-Hans"
language = "zh-Hans" if zh else "en"
ink = "#e4e4e4" if query.get("theme") == ["dark"] else "#1c1c1c"
say = lambda english, chinese: chinese if zh else english
areas = [say("Press shop", "冲压车间"), say("Paint line", "涂装线"), ""]
points = [
    {"value": f"m{n:04d}", "label": say("Meter", "电表") + f" {n:04d}", "group": areas[n % 3],
     "line": say("Line", "线路") + f" {n % 4 + 1}", "virtual": n % 100 == 0}
    for n in range(1, 1001)
]
controls = Controls(
    [
        {"key": "points", "kind": "points", "label": say("Points", "计量点"), "options": points},
        {"key": "period", "kind": "period", "label": say("Period", "时段"), "first": "2020-01-01"},
        {"key": "show", "kind": "choice", "label": say("Show", "显示"), "options": [
            {"value": "energy", "label": say("Energy", "电量")}, {"value": "power", "label": say("Power", "功率")}]},
        {"key": "step", "kind": "choice", "style": "select", "label": say("Resolution", "分辨率"), "options": [
            {"value": "hour", "label": say("Hours", "小时")}, {"value": "day", "label": say("Days", "日")}]},
        {"key": "compare", "kind": "toggle", "label": say("Compare", "比较")},
        {"key": "", "kind": "break"},
        {"key": "csv", "kind": "button", "label": "CSV", "icon": "download"},
        {"key": "png", "kind": "button", "label": "PNG", "icon": "picture"},
        {"key": "raise", "kind": "button", "label": "Raise"},
        {"key": "exit", "kind": "button", "label": "Exit"},
    ],
    {"points": ["m0001", "m0002"]}, language=language,
)
controls.take_query(query)
controls
""",
    "notice = Notice(language=language)\nnotice",
    """
figures = Figures([{"label": say("Energy", "电量"), "value": "1,234.5", "unit": "kWh"}], language=language)
figures
""",
    """
def drawn(values):
    x = np.arange("2026-11-01", "2026-11-08", dtype="datetime64[h]")
    wave = np.sin(np.arange(len(x)) / 24 * 2 * np.pi)
    data = [
        {"type": "scatter", "name": name, "x": x, "y": 20 + 5 * n + 10 * wave}
        for n, name in enumerate(values["points"][:5])
    ]
    layout = {"xaxis": {"type": "date"}, "font": {"color": ink}} | dict.fromkeys(
        ("paper_bgcolor", "plot_bgcolor"), "rgba(0,0,0,0)"
    )
    return {"data": data, "layout": layout}
chart = Chart(drawn(controls.values), title=say("Energy", "电量"), language=language)
chart
""",
    """
count = 1000
table = Table(
    [
        {"key": "name", "label": say("Point", "计量点")},
        {"key": "kwh", "label": say("Energy", "电量"), "unit": "kWh", "digits": 1, "bar": True},
        {"key": "whole", "label": say("Complete", "完整率"), "kind": "percent"},
        *({"key": f"t{n}", "label": f"T{n}", "digits": 2} for n in range(17)),
    ],
    {
        "name": [one["label"] for one in points],
        "kwh": np.arange(count) * 7 % 997 + 0.5,
        "whole": np.where(np.arange(count) == 3, 0.99999, 1.0),
        **{f"t{n}": np.linspace(-1000, 1000, count) * n for n in range(17)},
    },
    total={"kwh": 1.5}, selectable="many", title=say("Points", "计量点"), language=language,
)
table
""",
    """
told = []
def changed(values, key):
    if key == "csv":
        return controls.send_file("energy.csv", "text/csv", "kWh\\r\\n电,1\\r\\n".encode())
    if key == "png":
        return chart.download_png("energy.png")
    if key == "raise":
        raise ValueError("as asked")
    if key == "exit":
        os._exit(1)
    if key == "compare":
        time.sleep(0.3)
    told.append(key)
    chart.figure = drawn(values)
    figures.items = [{"label": str(len(told)), "value": str(len(values["points"])), "unit": values["show"]}]
    notice.say(f"{key}: {values['period']} {values['show']} {values['compare']} {len(values['points'])}", progress=0.5)
controls.on_change(changed)
table.on_select(lambda rows: notice.say(f"rows {rows}"))
chart.on_zoom(lambda zoom: notice.say(f"zoom {len(zoom)}"))
""",
)
