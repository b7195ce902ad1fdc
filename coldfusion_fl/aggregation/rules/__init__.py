"""The rules of screening, one file each.

To add a rule, write a subclass of `Rule` in a file of its own, and add it to the registry below.
"""

from coldfusion_fl.aggregation.rules.direction import Direction
from coldfusion_fl.aggregation.rules.greedy_soup import GreedySoup
from coldfusion_fl.aggregation.rules.influence_cap import InfluenceCap
from coldfusion_fl.aggregation.rules.size import Size
from coldfusion_fl.aggregation.screening import Rule

__all__ = ["RULES", "Direction", "GreedySoup", "InfluenceCap", "Size"]

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        Size,
        Direction,
        GreedySoup,
        InfluenceCap,
    )
}
