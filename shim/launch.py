"""`claude-local CMD …`: from the command line to the command itself, which this process becomes.

The fast path: every import here is paid by every invocation. Verbs, installation and error texts import what they
need when they need it.
"""

import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator

from shim import command, relay, token, variables, words
from shim import port as ports
from shim.agents import program
from shim.failure import CANNOT_CREATE, CONFIG, INTERNAL, NOT_FOUND, OS_ERROR, UNAVAILABLE, Failure, say
from sidecar import config, control
from sidecar.config import Config
from sidecar.control import LeaseEvent, LeaseRequest

LIFELINE_FD = 100
"""From here on lies what the command inherits, pipe and port: scripts use the small numbers for themselves."""


def main() -> int:
    """The console script. Returns the exit code of a verb or a failure; otherwise this process is the command."""
    _hold_standard_streams()
    try:
        _catch_interrupts()
        anyway = sys.argv[1:2] == [words.ANYWAY]
        word, arguments = words.split(sys.argv[1 + anyway :])
        if word:
            from shim import verbs

            return verbs.run(word, arguments)
        launch(arguments, anyway)
    except Failure as failure:
        say(failure.reason)
        return failure.exit_code
    except config.ConfigError as error:
        say(str(error))
        return CONFIG
    except control.RunDirectoryError as error:
        say(str(error))
        return CANNOT_CREATE
    except OSError as error:
        say(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        return OS_ERROR
    except KeyboardInterrupt:
        _die_of_interrupt()
    return INTERNAL


def launch(arguments: list[str], anyway: bool = False) -> None:
    """Become the command `arguments`, with a model behind it; raises Failure. `anyway`: an agent is run as it is."""
    settings = config.load()
    for name, near in config.unknown_variables():
        if near:
            say(f"{name} means nothing: did you mean {near}?")
    directory = control.run_directory(os.path.abspath(settings.run_dir) if settings.run_dir else "")
    file = _find(arguments[0], settings)
    if arguments[0] in words.ELSEWHERE and os.isatty(2):
        say(f"this is the program {file} ({words.ELSEWHERE[arguments[0]]})")
    started = program.linked(program.read(arguments), file)
    outer, given = arguments[: started.at + 1], arguments[started.at + 1 :]

    claude_settings, agent = None, None
    if started.name == words.CLAUDE:
        from shim import claude, profile

        program.refuse_dropped(started)
        given, wanted = profile.take(given, settings.profile.lower())
        claude_settings = claude.Settings(given, directory, folder())
    elif started.row:
        from shim.agents import setting

        agent = setting.judged(started, given, anyway, directory.path)
    secret = token.new()
    listener, guard = ports.claim()
    _hand_down(guard.detach())
    port = listener.getsockname()[1]
    line = claude_settings is not None and claude_settings.has_line
    request = _request(secret, port, arguments[0], settings, line)
    keep = claude_settings.held if claude_settings else agent.held if agent else None
    event = _wait(_start_relay(directory, settings, listener, secret, request, keep), settings)
    key = program.takes_key(started, given) and (agent is not None or not started.row)
    added = variables.ours(port, secret, event.model, event.context_window, event.output_limit, key)
    if claude_settings:
        chosen = profile.choose(wanted, event.context_window, event.speed)
        if remark := profile.remark(wanted, chosen, event.context_window, event.speed):
            say(remark)
        added |= profile.variables(chosen, os.environ)
        arguments = [*outer, *claude_settings.arguments(added, profile.arguments(chosen, given))]
        added |= claude.resumed(os.environ)
    elif agent:
        arguments = [*outer, *agent.arguments(added)]
        added |= agent.variables(added)
    command.become(file, arguments, variables.environment(command.user_environment(), added))


def _request(secret: str, port: int, name: str, settings: Config, line: bool) -> LeaseRequest:
    return LeaseRequest(
        token_sha256=token.digest(secret),
        pid=os.getpid(),
        command=os.path.basename(name),
        folder=folder(),
        port=port,
        model=model_name(settings.model),
        line=line,
    )


def model_name(model: str) -> str:
    """A relative path made absolute, since the sidecar lives in another folder; a name stays a name.

    `name` and `org/name` mean an alias and a hub id, unless there is such a model right here.
    """
    is_path = model.startswith(("./", "../", "~")) or model in (".", "..")
    if is_path or os.path.isfile(os.path.join(model, "config.json")):
        return os.path.abspath(os.path.expanduser(model))
    return model


def _find(name: str, settings: Config) -> str:
    try:
        return command.find(name, os.environ.get("PATH"))
    except Failure as failure:
        if name == words.CLAUDE and failure.exit_code == NOT_FOUND:
            from shim import install

            return install.claude(settings)
        if hint := words.hint(name):
            failure.reason += f" ({hint})"
        raise


def _start_relay(
    directory: control.RunDirectory,
    settings: Config,
    listener: socket.socket,
    secret: str,
    request: LeaseRequest,
    keep: tuple[str, int] | None,
) -> int:
    """Fork the relay; returns the pipe on which it tells how the lease is going."""
    lifeline, inherited = os.pipe()
    _hand_down(inherited)
    reader, writer = os.pipe()
    helper = relay.Relay(directory, os.path.abspath(settings.logs), listener, lifeline, writer, keep)
    relay.fork(helper, secret, request)
    for descriptor in (lifeline, writer):
        os.close(descriptor)
    listener.close()
    return reader


def _hand_down(descriptor: int) -> None:
    """Leave it to the command, out of the way of the numbers that scripts use."""
    import fcntl

    try:
        fcntl.fcntl(descriptor, fcntl.F_DUPFD, LIFELINE_FD)  # without close-on-exec
        os.close(descriptor)
    except OSError:
        os.set_inheritable(descriptor, True)  # a limit below a hundred descriptors


def _wait(reader: int, settings: Config) -> LeaseEvent:
    event = limits(_events(reader), settings)
    os.close(reader)
    return event


def limits(events: Iterable[LeaseEvent], settings: Config) -> LeaseEvent:
    """Follow a lease until the model's limits are known; raises Failure with what went wrong instead."""
    bar = None
    for event in events:
        if event.event == "downloading":
            if bar is None:
                from shim.progress import Progress

                bar = Progress(f"downloading {event.model or settings.model}", os.isatty(2))
            bar.show(event.done, event.total)
            continue
        if bar is not None:
            bar.finish()
        if event.event in ("failed", "refused"):
            raise Failure(event.reason or "the sidecar gave no reason", event.exit_code or UNAVAILABLE)
        if event.context_window:
            if bar is not None:
                say(f"{event.model} is here; it is loaded now")
            return event
    raise Failure(f"the relay ended before the model was there; its log is {settings.logs / 'relay.log'}", INTERNAL)


def _events(reader: int) -> Iterator[LeaseEvent]:
    rest = b""
    while data := os.read(reader, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield LeaseEvent.decode(line)


def _hold_standard_streams() -> None:
    """Where a standard stream was closed, nothing of ours may take its number. The command finds it closed again."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _catch_interrupts() -> None:
    """From here on a Ctrl-C is an exception again: see __main__."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def folder() -> str:
    """Where the user is."""
    try:
        return os.getcwd()
    except OSError:
        return ""  # removed under our feet; the command may not mind


def _die_of_interrupt() -> None:
    """Ctrl-C while waiting: die of the signal, so that a shell ends its loop too. Its exit status reads 130."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
