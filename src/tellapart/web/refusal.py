"""A refusal: what a client is told instead of an answer, as JSON, in plain words, without a trace of the inside."""

from starlette.responses import JSONResponse


class Refusal(Exception):
    """An answer with an error's status: a code for programs, one sentence of what is wrong, one of what would work."""

    def __init__(self, status: int, code: str, message: str, hint: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def response(self) -> JSONResponse:
        """The refusal as it is sent."""
        said = {"code": self.code, "message": self.message, "hint": self.hint}
        return JSONResponse({"error": said}, self.status, self.headers)


def busy(message: str, **headers: str) -> Refusal:
    """The refusal of a server that has enough to do."""
    return Refusal(429, "busy", message, "Ask again in a second.", Retry_After="1", **headers)
