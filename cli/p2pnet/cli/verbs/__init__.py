"""The verbs, a file each: EXAMPLE, the dataclass of its options (`UpOptions` for `up`), and `run(options, session)`.

A verb is imported when it is asked for. What its help does without (asyncio, clients, pydantic) is imported in its functions.
"""
