"""`claude-local CMD …`: from the command line to the command itself, which this process becomes.

The fast path: every import here is paid by every invocation. Verbs, installation and error texts import what they
need when they need it.
"""

import os
import socket
from collections.abc import Iterator

from shim import command_line, user_command
from shim.agents import program
from shim.claude_code import environment
from shim.errors import NOT_FOUND, Failure, say
from shim.lease import token
from shim.lease.request import folder, limits, model_name
from shim.relay import port as ports
from shim.relay import process
from sidecar.shared import config, run_directory
from sidecar.shared.config import Config
from sidecar.shared.protocol import LeaseEvent, LeaseRequest

LIFELINE_FD = 100
"""From here on lies what the command inherits, pipe and port: scripts use the small numbers for themselves."""


def launch(arguments: list[str], anyway: bool = False) -> None:
    """Become the command `arguments`, with a model behind it; raises Failure. `anyway`: an agent is run as it is."""
    settings = config.load()
    for name, near in config.unknown_variables():
        if near:
            say(f"{name} means nothing: did you mean {near}?")
    directory = run_directory.run_directory(os.path.abspath(settings.run_dir) if settings.run_dir else "")
    file = _find(arguments[0], settings)
    if arguments[0] in command_line.ELSEWHERE and os.isatty(2):
        say(f"this is the program {file} ({command_line.ELSEWHERE[arguments[0]]})")
    started = program.linked(program.read(arguments), file)
    outer, given = arguments[: started.at + 1], arguments[started.at + 1 :]

    claude_settings, agent = None, None
    if started.name == command_line.CLAUDE:
        from shim.claude_code import profile
        from shim.claude_code import settings as claude

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
    added = environment.ours(port, secret, event.model, event.context_window, event.output_limit, key)
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
    user_command.become(file, arguments, environment.environment(user_command.user_environment(), added))


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


def _find(name: str, settings: Config) -> str:
    try:
        return user_command.find(name, os.environ.get("PATH"))
    except Failure as failure:
        if name == command_line.CLAUDE and failure.exit_code == NOT_FOUND:
            from shim.claude_code import install

            return install.claude(settings)
        if hint := command_line.hint(name):
            failure.reason += f" ({hint})"
        raise


def _start_relay(
    directory: run_directory.RunDirectory,
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
    helper = process.Relay(directory, os.path.abspath(settings.logs), listener, lifeline, writer, keep)
    process.fork(helper, secret, request)
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


def _events(reader: int) -> Iterator[LeaseEvent]:
    rest = b""
    while data := os.read(reader, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield LeaseEvent.decode(line)
