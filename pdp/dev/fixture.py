"""What operators of the story's tenant wrote: agents with their trust, and tools."""

from __future__ import annotations

from typing import Any

from placet import Agent, AmountRole, AsyncClient, DevIdentity, Tool, ToolEffect

TENANT = "acme"
PAYER, NEWCOMER = "agent:payer", "agent:newcomer"
INVOICE = {"type": "string", "pattern": "^INV-[0-9]+$"}
# Seconds. Generous: the story tests answers, not speed.
DEADLINE = 20.0


def schema(**properties: object) -> dict[str, Any]:
    """JSON Schema of arguments that are all required and all there is."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


AGENTS = (
    Agent(agent=PAYER, owner="accounts-payable", trust=0.8),
    Agent(agent=NEWCOMER, owner="accounts-payable", trust=0.3, trust_explanation="no history yet"),
)

TOOLS = (
    Tool(
        name="invoices.get",
        effect=ToolEffect.READ,
        resource="invoice:{invoice}",
        arguments_schema=schema(invoice=INVOICE),
        description="Read an invoice",
    ),
    Tool(
        name="invoices.approve",
        effect=ToolEffect.WRITE,
        resource="invoice:{invoice}",
        arguments_schema=schema(invoice=INVOICE),
        description="Mark an invoice as approved",
    ),
    Tool(
        name="payments.create",
        effect=ToolEffect.PAY,
        resource="invoice:{invoice}",
        arguments_schema=schema(
            invoice=INVOICE, amount={"type": ["number", "string"]}, currency={"type": "string"}
        ),
        amount=AmountRole(argument="amount", unit="major", currency_argument="currency"),
        description="Pay an invoice",
    ),
    Tool(
        name="invoices.delete",
        effect=ToolEffect.DELETE,
        resource="invoice:{invoice}",
        arguments_schema=schema(invoice=INVOICE),
        description="Delete an invoice",
    ),
)


async def put_fixture(address: str) -> None:
    """Write tenant, agents and tools as an operator. Writing them again harms nothing."""
    operator = DevIdentity(tenant=TENANT, subject="ops", roles=("operator",))
    async with AsyncClient(address, identity=operator, timeout=DEADLINE) as admin:
        # No settings: the bundle's defaults hold (above 2,000 EUR somebody is asked; trust 0.5 to pay).
        await admin.put_tenant({})
        await admin.put_agents(AGENTS)
        await admin.put_tools(TOOLS)
