"""How people ask: one phrase a line, with fields in braces. Invented; knows nothing of what is answered."""


def _lines(block: str) -> tuple[str, ...]:
    """A backslash and an n stand for a line break inside a phrase."""
    return tuple(line.replace("\\n", "\n") for line in block.strip().split("\n"))


HELLO = _lines(r"""
hello
hi
hey
hi there
hello there
hey there
greetings
howdy
hallo
hello friend
yo
good day
""")

COUNT_ASKS = _lines(r"""
{hello} in {n} words
greet me in {n} words
say {hello} in {n} words
{hello} in exactly {n} words
give me a greeting of {n} words
greet me with {n} words
a greeting in {n} words
say {hello} in exactly {n} words
{hello}, in {n} words
greet me in exactly {n} words
please greet me in {n} words
a {n} word greeting
say {hello} using {n} words
write a greeting in {n} words
{hello} ({n} words)
greet the user in {n} words
answer with a greeting in {n} words
""")

SAY_ASKS = _lines(r"""
say {x}
Say {x}
say {x}
Say exactly: {x}
say exactly {x}
repeat {x}
Repeat after me: {x}
repeat after me: {x}
Repeat: {x}
say: {x}
answer with {x}
reply with {x}
Reply with exactly: {x}
Answer with exactly: {x}
Reply with: {x}
Reply with exactly {x}
respond with {x}
Respond with exactly: {x}
please say {x}
Please repeat {x}
just say {x}
Say only {x}
Say just: {x}
Repeat exactly: {x}
Say this: {x}
Reply only with {x}
Reply with only: {x}
Answer only: {x}
echo back {x}
Repeat this: {x}
Now say {x}
Say the following: {x}
Repeat the following:\n{x}
Please answer with exactly this text: {x}
Reply with exactly this text: {x}
Say this sentence: {x}
Repeat this text: {x}
say the words {x}
can you say {x}
""")

SAY_WORD_ASKS = _lines(r"""
answer with the word {x}
Reply with the word {x}
say the word {x}
Say only the word {x}
Reply with exactly one word: {x}
Reply with just the word {x}
Answer with one word: {x}
respond with the single word {x}
Say the number {x}
Reply with exactly the word {x}
Answer with only the word {x}
""")

SAY_TAILS = _lines(r"""
Say {x} and nothing else
Reply with {x} and nothing else.
say {x} please
Repeat {x}, nothing else.
Can you say {x}?
Please say {x} for me.
Say {x}.
""")

READ_ASKS = _lines(r"""
Read {x}
read {x}
Read {x}
read the file {x}
Read the file {x}
show me {x}
Show me the file {x}
show {x}
what is in {x}?
What's in {x}?
What does {x} contain?
What does {x} say?
what does the file {x} say?
open {x}
Open the file {x}
cat {x}
Please read {x}
please open {x}
can you read {x}?
Could you read the file {x} for me?
Can you show me {x}?
display {x}
tell me what {x} says
Tell me what is in {x}
look at {x}
view {x}
Read {x} and tell me what it says
Read {x} please
read {x}, please
Read the file {x} and tell me what it says.
What is in the file {x}?
What are the contents of {x}?
show me the contents of {x}
Read the contents of {x}
Now read {x}
Then read {x}
Read file {x}
Use {tool} to read {x}
Use the {tool} tool to read {x}
Use the {tool} tool on {x}
Read {x} and report what it says
Please read the file {x} and tell me its contents.
Have a look at {x}
I want to see {x}
Read {x} with the {tool} tool
Read {x}.
Look into {x}
print the file {x}
take a look at {x}
What is written in {x}?
contents of {x}?
""")

RUN_ASKS = _lines(r"""
Run {x}
run {x}
Run {x}
run {x}
run the command {x}
Run the command: {x}
Run the command {x}
execute {x}
Execute {x}
Execute the command {x}
execute: {x}
use {tool} to run {x}
Use the {tool} tool to run {x}
Please run {x}
run this command: {x}
Run this: {x}
can you run {x}
Now run {x}
Run: {x}
Then run {x}
please execute {x}
Use {tool} to execute {x}
Run this in the shell: {x}
Run the shell command {x}
Use the shell to run {x}
call {tool} with {x}
Run the following command:\n{x}
Use Bash to run {x}
Use {tool}: {x}
In the terminal, run {x}
run the command `{x}`
Run `{x}`
""")

RUN_TAILS = _lines(r"""
Run {x} and tell me the output
run {x} and tell me what it prints
Run {x}, please
Run {x} please
Run {x} and show me the output.
Run {x} in the shell
Run {x} with the {tool} tool
Can you run {x}?
Could you run {x} for me?
Execute {x} and report the output.
run {x} using {tool}
What does {x} print?
Run {x} and tell me what it says.
Run {x}.
What is the output of {x}?
Run the command {x} with {tool}.
Run {x} and report what it printed.
""")

LIST_ASKS = _lines(r"""
list the files
List files
list all files
what files are here?
Show me the files
ls
List the files here
which files are there?
list the files in this folder
List the files in the current directory
""")

LIST_IN_ASKS = _lines(r"""
list the files in {x}
List files in {x}
ls {x}
what files are in {x}?
show me the files in {x}
List the files in the folder {x}
""")

BOTH_ASKS = _lines(r"""
{a} and {b}
{a} and {b}
{a} and also {b}
{a} and {b} at the same time
{a} and {b} together
please {a} and {b}
At once, {a} and {b}
{a} and {b} in parallel
""")

SEQUENCES = (
    ("", ", then ", ", then "),
    ("", ", then ", ", then "),
    ("", ", then ", " and then "),
    ("first ", ", then ", ", then "),
    ("first ", ", then ", ", finally "),
    ("", ", then ", ", and finally "),
    ("", ". Then ", ". Then "),
    ("please ", ", then ", ", then "),
    ("", "; then ", "; then "),
    ("", ", and then ", ", and then "),
)
"""What stands before the first step, between two, and before the last."""

SUBAGENT_ASKS = _lines(r"""
use a subagent to {x}
Use a subagent to {x}
Use an agent to {x}
use the {tool} tool to {x}
Let a subagent {x}
Ask a subagent to {x}
have a subagent {x}
Start a subagent to {x}
Delegate this to a subagent: {x}
Tell a subagent to {x}
launch an agent to {x}
Use one subagent to {x}
""")

PLAN_ASKS = _lines(r"""
{x}
{x}
plan to {x}
Plan to {x}
make a plan to {x}
Make a plan: {x}
please plan to {x}
I want to {x}
""")

ENDLESS_ASKS = _lines(r"""
say {x} forever
Say {x} forever
repeat {x} forever
Repeat {x} again and again
say {x} again and again
say {x} over and over
Repeat {x} without end
say {x} without end
keep saying {x}
never stop saying {x}
""")

SUMMARY_ASKS = _lines(r"""
Write the summary inside <summary></summary> tags. {sentence}
Put what was said into <summary> tags.
Answer with a <summary> block of the conversation. {sentence}
an <analysis> block followed by a <summary> block. {sentence}
Everything in one <summary></summary> block, please. {sentence}
{sentence} The summary goes between <summary> and </summary>.
""")

UNKNOWN_ASKS = _lines(r"""
write a function that {w} the {v}
Write a {w} in Python
fix the bug in {p}
explain {w}
what is a {w}?
why is the {w} {v}?
Please summarize the conversation so far
Write a short title for this conversation
Create a file {p}
create {p} with {w}
edit {p}
delete {p}
Write {w} to {p}
Refactor {p} to use {w}
translate {w} to French
Generate a title of {n} words for this session
What is {n} plus {n}?
add tests for {p}
how do I {w} a {v}?
Implement {w} {v} with {p}
Search for {w}
Who invented the {w}?
rename {p} to {q}
What does {w} mean?
tell me a joke
Tell me about {w}
{w}
{w} {v}
{n}
count to {n}
What time is it?
what is the weather in {v}?
continue
yes
no
ok
Build a website for {w}
Is {p} {w}?
Describe the {w} {v}
make the {w} faster
Give me {n} ideas for {w}
Does the {w} {v}?
commit the changes
Review {p}
{sentence}
{sentence}
{sentence}
{sentence}
{sentence}\n{sentence}
Summarize this text:\n{extract}
{extract}
Extract the {w} from this:\n{extract}
Write a title for this:\n{extract}
Is this a new topic? {sentence}
help
help me
Please help me with {w}
what tools do you have?
write a poem about {w}
write a haiku
why?
I think {w} is {v}
my name is {w}
are you there?
test
Write a program
{nonsense}
?
""")

WHO_ASKS = _lines(r"""
who are you
what are you
what model are you
which model is this
what is your name
what can you do
are you claude
are you a model
introduce yourself
tell me about yourself
who made you
what are your abilities
""")

ERRORS = _lines(r"""
File does not exist.
No such file or directory: {p}
Permission denied
command not found: {w}
Exit code {n}
{w} is not a {v}
ENOENT: no such file or directory, open '{p}'
{p} not found
timed out after {n} s
[Errno 2] No such file or directory: '{p}'
{phrase}
""")
