"""What an agent saves in `benchmarks/peers_saves.py`: about 3,000 bytes of JSON at each step.

Its last ten tasks, what it knows, its sums; no two states are alike.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

State = dict[str, Any]


def states_of_an_agent() -> Iterator[State]:
    """Give what it saves at each of its steps, without end."""
    tasks: deque[State] = deque((_task(number) for number in range(10)), maxlen=10)
    for step in itertools.count(10):
        tasks.append(_task(step))
        yield {
            "status": "busy",
            "current_task": f"Make the totals of invoice {step:06} agree with its lines",
            "task_status": "in_progress",
            "memory_context": {
                "goal": "Move the billing service to the new tax rules without a change of its API",
                "plan": ["read the rules", "write failing tests", "change the sums", "review"],
                "facts": [
                    "Amounts are whole cents, rates are in basis points.",
                    "Rounding is done once for each invoice, half to even.",
                    "Rates change on the first of a month; the date of supply decides.",
                    "Credit notes carry the rates of the invoice that they correct.",
                ],
                "open_files": ["billing/totals.py", "billing/rates.py", "tests/test_totals.py"],
                "last_answer": f"Step {step:06}: 3 of 41 tests fail, all of them on credit notes. "
                "They correct invoices from before the change of rates; the others agree to the "
                "cent. Next: give each line the rate of the day of its supply, and run them again.",
            },
            "task_history": list(tasks),
            "performance_metrics": {
                "steps": step,
                "tokens_in": step * 1_871,
                "tokens_out": step * 312,
                "cost_usd": round(step * 0.0143, 4),
                "success_rate": round(1 - 1 / step, 4),
            },
            "agent_config": {"model": "large-1", "temperature": 0.2, "max_steps": 40},
            "tools_enabled": ["editor", "shell", "search"],
        }


def _task(number: int) -> State:
    return {
        "task_id": f"task_{number:06}",
        "kind": ("edit", "test", "review")[number % 3],
        "tool": ("editor", "shell", "search")[number % 3],
        "status": "failed" if number % 11 == 0 else "completed",
        "duration_ms": 800 + number * 37 % 900,
        "summary": f"Checked totals.py against rule {number % 89:03}, no difference was left.",
    }
