"""One option of ours among a command's own arguments. Pure."""


def take(option: str, arguments: list[str]) -> tuple[list[str], str | None]:
    """Take `OPTION X` and `OPTION=X` out, as far as `--`; returns what remains and the last X, empty where it is left
    out."""
    rest: list[str] = []
    given = None
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += [word, *queue]
            break
        if word == option:
            given = queue.pop(0) if queue else ""
        elif word.startswith(f"{option}="):
            given = word.removeprefix(f"{option}=")
        else:
            rest.append(word)
    return rest, given
