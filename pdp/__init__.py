"""Placet's server, the policy decision point: a map of its rooms.

A room is a folder that holds one noun: its rules, and where it has one, the `point.py` that asks the world
and answers. A call to `Evaluate` passes these in turn, and ends in `postgres` again, to be recorded:

    server/      The edge: gRPC and HTTP, who calls, messages to values and back, failures to statuses.
    overload/    More calls than can be answered in time: what is begun, what waits, what is refused.
    decision/    The pipeline: enrich, decide, sign, record. Start at `point.py`.
    delegation/  On whose behalf: grants, what lies within what, and what a chain of them proves.
    action/      What a call means: derived from its arguments by the registry, never taken from the caller.
    authority/   What may be done, and how much: boundaries, a tenant's settings, limits and their counters.
    postgres/    The store behind the ports, on PostgreSQL 15 to 18. Start at `store.py`.
    opa/         The policy engine: OPA beside the server, the bundle it loads, and the state it is in.
    proof/       What is signed of decisions and of what became of them, in the formats of the client's wheel.

Three rooms serve the calls around it:

    sessions/    The run of a task: who may open, see and end it, and which tools are left in it.
    control/     What operators write: by whom and why, in the histories and in the log.
    outcomes/    What became of allows: reports, redemptions, and allows that nobody reported on.

One lies under all rooms, and three stand around them:

    model/       The domain's values: frozen, parsed once at the edge, without I/O. One file a noun.
    proxies/     Adapters around a port: the ports of the pipeline, measured.
    config/      What the server is started with: its own settings, and who may call.
    dev/         Everything on one machine: `pdp dev` and the story that it plays.

`app.py` builds one replica of these parts, and `cli.py` is the command that starts it. `readiness.py` says
whether the replica can decide, and `background.py` is what it does beside answering calls. `ports.py` says
what the rooms ask of the world; `opa`, `postgres` and `signing.py` answer it, and no rule imports them.
`metrics.py` counts. The other files here are vocabulary that every room shares.

Imports point down. From the top: command, composition, adapters and edge, use cases (`outcomes`, `control`,
`decision`, `sessions`), nouns (`proof`, `delegation`, `authority`, `action`, `overload`), ports, values.
pyproject.toml has all floors, and those inside the rooms; docs/architecture.md explains them.

These rooms are to come; they are named here so that nobody builds them elsewhere:

    reviews/     People who resolve escalations: a review, its approval, and where both are judged.
    halts/       What stops a tenant, a tool or an agent at once, and the recorded exception (breakglass).
    trust/       How far an agent is trusted, worked out from evidence.
    policy/      What a change of policy would do: recorded decisions judged again.
    console/     The reviewer's page: an adapter beside `server` that asks `reviews`, never the store.
    log/         The ledger as a Merkle log: sequencing, publishing, witnesses.
"""
