import wit_world.exports
from wit_world.imports import jobs


class Jobs(wit_world.exports.Jobs):
    async def double(self, value: int) -> int:
        return await jobs.double(value)

    async def follow(self, trail: str) -> str:
        return await jobs.follow(trail + " python")

    # An error is an exception, which passes through.
    async def refuse(self, why: str) -> int:
        return await jobs.refuse(why)
