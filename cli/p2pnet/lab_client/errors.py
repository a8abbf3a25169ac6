"""What the desk raises besides `TargetError`."""

from p2pnet.model.errors import P2pnetError
from p2pnet.model.jobs import Problem


class ProblemError(P2pnetError):
    """The lab answered with a `Problem`; `exit_code` is the command line's."""

    def __init__(self, problem: Problem, *, status: int = 0) -> None:
        super().__init__(problem.error)
        self.problem = problem
        self.status = status

    @property
    def exit_code(self) -> int:
        """The exit code the lab asks for."""
        return self.problem.exit_code

    @property
    def hint(self) -> str:
        """What to do about it, or empty."""
        return self.problem.hint
