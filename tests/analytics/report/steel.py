"""The tariff of the golden bill, as a file of this program."""

from __future__ import annotations

TARIFF = """
name = { en = "Golden bill A", "zh-Hans" = "黄金账单 A" }
currency = "CNY"

[periods]
peak = { en = "Peak", "zh-Hans" = "峰" }
flat = { en = "Flat", "zh-Hans" = "平" }
valley = { en = "Valley", "zh-Hans" = "谷" }

[[version]]
from = 2018-01-01
base = "0.60"
ratios = { peak = "1.64", flat = "1", valley = "0.41" }

[[version.day]]
hours = { peak = ["10:00-14:00", "17:00-21:00"], valley = ["23:00-07:00"] }
otherwise = "flat"

[version.demand]
basis = "BASIS"
per_kw = "40"
per_kva = "25"
contract_kw = "550"
transformer_kva = "800"
allowance = 1.05
excess = "added_to_measured"
discount_from_kwh_per_kva = 260
discount = 0.9

[version.power_factor]
standard = 0.90
"""
