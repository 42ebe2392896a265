# ruff: noqa: E501 (the data is one phrase or sentence a line)
"""Shell: an English request -> the one Linux command that does it, in one canonical style.

The style: short options in one group, in the order of the table `OPERATIONS`; `mkdir -p`, `rm -r`, `cp -r` for directories
(never `-f`); patterns and search words in single quotes; `find DIR -type f|d` before the tests; `tar -czf` / `-xzf` for
.tar.gz; `.` for the current directory. Names, paths, words and numbers are copied from the prompt.

Scorer: first line that is not empty, without code fence, backticks and a leading "$ "; split into words as a shell does (so
quotes and spaces do not matter), a slash at the end of a word is dropped. The words must then be those of the answer.
"""

import random
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from experts.domains.base import Domain, Question
from experts.domains.general import expand, roughen


@dataclass(frozen=True)
class Operation:
    """A command and what people say for it, as phrases that begin with a verb. The slots are those of `_values`."""

    command: str
    train: str
    held: str


OPERATIONS = [
    Operation(
        "ls {loc}",
        "list the [files|contents] [in|of] {loc}||show what is in {loc}||see which files are in {loc}||list {loc}",
        "display the entries of {loc}||look at what {loc} contains",
    ),
    Operation(
        "ls -la {loc}",
        "list all files in {loc} [including|with] hidden ones [in long format|with details]"
        "||show everything in {loc} in long format, hidden files too||see all files and hidden files of {loc} with their permissions",
        "give a long listing of {loc} that includes dotfiles||display every entry of {loc} with details, even hidden",
    ),
    Operation(
        "ls -lt {loc}",
        "list [the files in|] {loc} in long format sorted by [time|modification time], newest first"
        "||show the files of {loc} with details, [newest|most recent] first||list {loc} in long format by modification time",
        "give a long listing of {loc} ordered by date, latest on top||display {loc} in long form, most recently changed first",
    ),
    Operation(
        "ls -lS {loc}",
        "list [the files in|] {loc} in long format sorted by size[, largest first|]"
        "||show the files of {loc} with details, [largest|biggest] first||list {loc} in long format by file size",
        "give a long listing of {loc} ordered by size||display {loc} in long form with the biggest on top",
    ),
    Operation(
        "find {loc} -type f -name '*.{ext}'",
        "find all {exts} [in|under|below] {loc}||search {loc} for {exts}||locate every .{ext} file [in|under] {loc}"
        "||find files ending [in|with] .{ext} [in|under] {loc}||get all {exts} [in|under] {loc} and its subdirectories",
        "look for {exts} anywhere inside {loc}||hunt down all {exts} within {loc}",
    ),
    Operation(
        "find {loc} -type f -name '{base}'",
        "find [the|a] file [named|called] {base} [in|under|somewhere in] {loc}||search {loc} for a file [named|called] {base}"
        "||locate {base} [in|under] {loc}||find where {base} is [in|under] {loc}",
        "look for the file {base} anywhere inside {loc}||track down {base} within {loc}",
    ),
    Operation(
        "find {loc} -type d -name '{name}'",
        "find [all directories|a directory|folders] [named|called] {name} [in|under] {loc}"
        "||search {loc} for [directories|folders] [named|called] {name}||locate the [directory|folder] {name} [in|under] {loc}",
        "look for folders with the name {name} inside {loc}||track down the directory {name} within {loc}",
    ),
    Operation(
        "find {loc} -type f -size +{size}",
        "find [all|] files [larger|bigger] than {size} [in|under] {loc}||list files over {size} [in|under] {loc}"
        "||search {loc} for files [above|larger than|of more than] {size}||find [big|large] files in {loc}, over {size}",
        "look for files inside {loc} that exceed {size}||spot everything above {size} in {loc}, files only",
    ),
    Operation(
        "find {loc} -type f -size -{size}",
        "find [all|] files smaller than {size} [in|under] {loc}||list files under {size} in size in {loc}"
        "||search {loc} for files [below|smaller than|of less than] {size}",
        "look for files inside {loc} with a size below {size}||spot the files in {loc} that are smaller than {size}",
    ),
    Operation(
        "find {loc} -type f -mtime -{days}",
        "find [all|] files [modified|changed] in the last {days} days [in|under] {loc}"
        "||list files in {loc} [changed|modified] [within|during] the last {days} days||search {loc} for files newer than {days} days",
        "look for files in {loc} that were edited in the past {days} days||spot files of {loc} touched less than {days} days ago",
    ),
    Operation(
        "find {loc} -type f -mtime +{days}",
        "find [all|] files older than {days} days [in|under] {loc}||list files in {loc} [modified|changed] more than {days} days ago"
        "||search {loc} for files not [modified|changed] in the last {days} days||find files in {loc} that are over {days} days old",
        "look for files in {loc} nobody has changed for more than {days} days||spot files of {loc} with an age above {days} days",
    ),
    Operation(
        "find {loc} -type f -empty",
        "find [all|] empty files [in|under] {loc}||list files [in|under] {loc} [that are empty|of zero size|with no content]"
        "||search {loc} for empty files",
        "look for zero-byte files inside {loc}||spot files in {loc} that have nothing in them",
    ),
    Operation(
        "find {loc} -type f -name '*.{ext}' -delete",
        "[find and delete|delete|remove] all {exts} [in|under] {loc} and its subdirectories"
        "||[recursively delete|recursively remove] [all|] {exts} [in|under|from] {loc}||delete every .{ext} file under {loc}",
        "get rid of all {exts} anywhere inside {loc}||wipe the {exts} within {loc}, subfolders too",
    ),
    Operation(
        "grep '{word}' {file}",
        "[find|show|print] [the|all|] lines [with|containing|that contain] '{word}' in {file}||search for '{word}' in {file}"
        "||search {file} for '{word}'||look for the word '{word}' in [the file|] {file}||grep {file} for '{word}'",
        "pull out of {file} each line mentioning '{word}'||check where '{word}' appears in {file}",
    ),
    Operation(
        "grep -i '{word}' {file}",
        "search for '{word}' in {file} [ignoring case|case-insensitively|, ignore case]"
        "||[find|show] lines with '{word}' in {file}, [upper or lower case|ignoring case|case-insensitive]",
        "pull lines mentioning '{word}' out of {file}, no matter the case||check {file} for '{word}' in any capitalisation",
    ),
    Operation(
        "grep -n '{word}' {file}",
        "search for '{word}' in {file} [and show|with|showing] line numbers||[find|show|print] lines with '{word}' in {file} [with|and] their line numbers"
        "||show on which line numbers '{word}' [appears|occurs] in {file}",
        "pull lines mentioning '{word}' out of {file} and number them||tell at which line numbers of {file} there is '{word}'",
    ),
    Operation(
        "grep -c '{word}' {file}",
        "count [the|how many] lines [in {file} that contain|in {file} with] '{word}'||count the lines containing '{word}' in {file}"
        "||get the number of lines with '{word}' in {file}",
        "tell how many lines of {file} mention '{word}'||compute the number of lines with a '{word}' in {file}",
    ),
    Operation(
        "grep -v '{word}' {file}",
        "[show|print|list] [the|all|] lines [of|in] {file} [without|not containing|that do not contain] '{word}'"
        "||show {file} without the lines [with|containing] '{word}'||filter out lines with '{word}' from {file}",
        "view {file} minus any line mentioning '{word}'||leave out of {file} each line that has '{word}'",
    ),
    Operation(
        "grep -r '{word}' {loc}",
        "[search|grep] [recursively for|for] '{word}' in all files [in|under|of] {loc}||recursively search {loc} for '{word}'"
        "||find '{word}' in [any|all] files [in|under] {loc}||search all files [in|under] {loc} for the text '{word}'",
        "look through each file inside {loc} for the string '{word}'||check every file within {loc} for '{word}'",
    ),
    Operation(
        "tar -czf {archive} {dir}",
        "[create|make] [a|the] [gzipped|compressed] [archive|tar archive|tarball] {archive} [from|of] {dir}||compress {dir} into {archive}"
        "||pack [the directory|] {dir} into {archive}||archive {dir} as {archive}",
        "bundle {dir} up in a tarball {archive}||put the folder {dir} in a compressed tar named {archive}",
    ),
    Operation(
        "tar -xzf {archive}",
        "[extract|unpack|untar] [the archive|the tarball|] {archive} [here|in the current directory|]||decompress and unpack {archive}",
        "get the files out of {archive}||open up the tarball {archive} right here",
    ),
    Operation(
        "tar -xzf {archive} -C {dir}",
        "[extract|unpack|untar] [the archive|] {archive} [into|to] [the directory|] {dir}||unpack {archive} in [the folder|] {dir}",
        "get the files out of {archive} and place them in {dir}||open up the tarball {archive} inside {dir}",
    ),
    Operation(
        "tar -tzf {archive}",
        "list [the contents|what is inside|the files] of {archive} [without extracting|without unpacking|]"
        "||show [the files|what is] in [the archive|] {archive} [without extracting it|without unpacking it]",
        "peek into the tarball {archive}, no extraction||view the table of contents of {archive}",
    ),
    Operation(
        "du -sh {loc}",
        "show the [total|] size of {loc} [in human readable form|]||check how [big|large] [the directory|] {loc} is"
        "||get the [total|] disk usage of {loc}||see how much [disk space|space] {loc} [uses|takes|takes up]",
        "find out what {loc} weighs in total, human readable||sum up the space used by {loc}",
    ),
    Operation(
        "df -h",
        "show [the|] free disk space [in human readable form|on all file systems|on this machine|]||check how much disk space is [left|free]"
        "||see [the|] disk usage of all [mounted|] file systems||display free space on all [disks|partitions]",
        "find out how full the disks are||view what space remains on each mount",
    ),
    Operation(
        "chmod +x {file}",
        "make {file} executable||give {file} execute permission||add [the|] execute permission to {file}||allow {file} to be executed",
        "turn {file} into something I can run||set the executable bit on {file}",
    ),
    Operation(
        "chmod {mode} {file}",
        "set the permissions of {file} to {mode}||change [the permissions|the mode] of {file} to {mode}||chmod {file} to {mode}||give {file} [mode|permissions] {mode}",
        "apply the mode {mode} to {file}||put permission bits {mode} on {file}",
    ),
    Operation(
        "chmod -R {mode} {dir}",
        "[recursively set|recursively change] the permissions of {dir} to {mode}||set the permissions of {dir} and everything in it to {mode}"
        "||change the mode of {dir} [to {mode} recursively|and all its files to {mode}]",
        "apply the mode {mode} to {dir} and all that is inside||put permission bits {mode} on the whole tree {dir}",
    ),
    Operation(
        "chown {user} {file}",
        "change the owner of {file} to {user}||make {user} the owner of {file}||set the owner of {file} to {user}||give ownership of {file} to {user}",
        "hand {file} over to the user {user}||let {file} belong to {user}",
    ),
    Operation(
        "chown -R {user} {dir}",
        "[recursively change|change recursively] the owner of {dir} to {user}||make {user} the owner of {dir} and everything in it"
        "||give ownership of {dir} and all its files to {user}||set the owner of {dir} to {user} recursively",
        "hand the whole tree {dir} over to the user {user}||let {dir} with all that is inside belong to {user}",
    ),
    Operation(
        "cp {file} {dir}",
        "copy [the file|] {file} [to|into] [the directory|the folder|] {dir}||make a copy of {file} in {dir}",
        "place a duplicate of {file} in {dir}||duplicate {file} over to {dir}",
    ),
    Operation(
        "cp {base} {file_b}",
        "copy {base} to {file_b}||make a copy of {base} [named|called] {file_b}||back up {base} as {file_b}",
        "duplicate {base} under the name {file_b}||save another copy of {base} as {file_b}",
    ),
    Operation(
        "cp -r {dir} {dir_b}",
        "copy the [directory|folder] {dir} to {dir_b}||recursively copy {dir} [to|into] {dir_b}||copy {dir} with all its contents to {dir_b}",
        "duplicate the whole folder {dir} over to {dir_b}||place a copy of the directory {dir} at {dir_b}",
    ),
    Operation(
        "mv {file} {dir}",
        "move [the file|] {file} [to|into] [the directory|the folder|] {dir}||put {file} into {dir} (move it)",
        "relocate {file} to {dir}||shift {file} over into {dir}",
    ),
    Operation(
        "mv {base} {file_b}",
        "rename {base} to {file_b}||change the name of {base} to {file_b}||rename [the file|] {base} as {file_b}",
        "give {base} the new name {file_b}||call {base} {file_b} from now on",
    ),
    Operation(
        "rm {file}",
        "delete [the file|] {file}||remove [the file|] {file}||erase [the file|] {file}",
        "get rid of {file}||throw {file} away",
    ),
    Operation(
        "rm -r {dir}",
        "[delete|remove] the [directory|folder] {dir} [and everything in it|and all its contents|with all its files|]"
        "||recursively [delete|remove] {dir}||delete {dir} and everything [in it|inside]",
        "get rid of the whole folder {dir}||throw the directory {dir} away with all that is inside",
    ),
    Operation(
        "mkdir -p {dir}",
        "[create|make] [a|the] [directory|folder] {dir}||create [the directory|the folder|] {dir} [including|with] [its|any] missing parents||make a new [directory|folder] [named|called] {dir}",
        "add a folder {dir}||set up an empty directory {dir}",
    ),
    Operation(
        "touch {file}",
        "create an empty file [named|called|] {file}||make [a new|an] empty file {file}||create the file {file} without content",
        "add a blank file {file}||set up {file} with nothing in it",
    ),
    Operation(
        "head -n {n} {file}",
        "show the first {n} lines of {file}||print [the|] first {n} lines of {file}||display the [top|first] {n} lines of {file}||get the first {n} lines [of|from] {file}",
        "view just the opening {n} lines of {file}||read {n} lines from the start of {file}",
    ),
    Operation(
        "tail -n {n} {file}",
        "show the last {n} lines of {file}||print [the|] last {n} lines of {file}||display the [bottom|last] {n} lines of {file}||get the last {n} lines [of|from] {file}",
        "view just the closing {n} lines of {file}||read {n} lines from the end of {file}",
    ),
    Operation(
        "tail -f {file}",
        "follow {file} [as it grows|live|in real time|]||watch [new lines in|the end of] {file} [live|as they come|in real time]||keep printing new lines of {file}",
        "keep an eye on what gets added to {file}||stream the growing file {file}",
    ),
    Operation(
        "cat {file}",
        "[show|print|display] the [contents|whole content] of {file}||print [the whole file|all of] {file}||output {file} to the terminal",
        "dump {file} on the screen||read the complete file {file}",
    ),
    Operation(
        "wc -l {file}",
        "count the [number of|] lines in {file}||count how many lines {file} has||get the number of lines [of|in] {file}||get the line count of {file}",
        "tell how many lines long {file} is||compute the line total of {file}",
    ),
    Operation(
        "wc -w {file}",
        "count the [number of|] words in {file}||count how many words {file} has||get the number of words [of|in] {file}||get the word count of {file}",
        "tell how many words {file} contains||compute the word total of {file}",
    ),
    Operation(
        "kill {pid}",
        "[kill|stop|terminate|end] [the|] process [with|] [id|PID|number] {pid}||kill process {pid}||terminate PID {pid}",
        "shut down the process whose PID is {pid}||make process {pid} quit",
    ),
    Operation(
        "kill -9 {pid}",
        "[force kill|forcibly kill|force-kill] [the|] process {pid}||kill process {pid} [by force|immediately with SIGKILL|with signal 9]"
        "||send SIGKILL to [process|PID] {pid}||kill -9 the process {pid}",
        "forcefully end the process whose PID is {pid}||hit PID {pid} with a SIGKILL",
    ),
    Operation(
        "pkill {proc}",
        "kill all processes [named|called] {proc}||[kill|stop|terminate] every {proc} process||kill {proc} by [its|] name",
        "shut down whatever runs under the name {proc}||make all {proc} processes quit",
    ),
    Operation(
        "pgrep {proc}",
        "find the [PID|process id|process ids] of {proc}||get the [PIDs|process ids] of all {proc} processes||show the PID of {proc}",
        "look up which PID {proc} has||tell the process ids that {proc} runs under",
    ),
    Operation(
        "ln -s {file} {name}",
        "create a [symbolic link|symlink|soft link] [named|called] {name} [to|pointing to|that points to] {file}||symlink {file} as {name}||link {name} symbolically to {file}",
        "add a symlink {name} for {file}||have {name} be a soft link to {file}",
    ),
    Operation(
        "sort {file}",
        "sort the lines of {file} [alphabetically|]||sort [the file|] {file} [alphabetically|]||print {file} sorted",
        "put the lines of {file} in alphabetical order||view {file} in sorted order",
    ),
    Operation(
        "sort -n {file}",
        "sort {file} numerically||sort the lines of {file} [as numbers|by number|numerically]||print {file} sorted numerically",
        "put the lines of {file} in numeric order||order {file} by numeric value",
    ),
    Operation(
        "sort -u {file}",
        "sort {file} and remove duplicate[s| lines]||print the unique lines of {file}, sorted||sort {file} [without duplicates|keeping only unique lines]",
        "put the lines of {file} in order and drop repeated ones||view {file} sorted with each line once",
    ),
    Operation(
        "sed -i 's/{word}/{word_b}/g' {file}",
        "replace '{word}' [with|by] '{word_b}' [everywhere|] in {file}||replace all occurrences of '{word}' with '{word_b}' in {file}"
        "||substitute '{word_b}' for '{word}' in {file}||change every '{word}' to '{word_b}' in {file}",
        "swap each '{word}' for '{word_b}' inside {file}||turn all '{word}' in {file} into '{word_b}'",
    ),
    Operation(
        "diff {file} {file_b}",
        "compare {file} [and|with] {file_b}||show the differences between {file} and {file_b}||diff {file} [against|and] {file_b}||see what differs between {file} and {file_b}",
        "tell in what way {file} and {file_b} differ||check {file} against {file_b} line by line",
    ),
    Operation(
        "unzip {zip} -d {dir}",
        "unzip {zip} [into|to] {dir}||extract [the zip file|] {zip} [into|to] [the folder|] {dir}||unpack {zip} in {dir}",
        "get the files out of {zip} and place them in {dir}||open up {zip} inside {dir}",
    ),
]

TRAIN_TEMPLATES = """
{Q}
{Q}.
{q}
Linux command to {q}
Shell command to {q}?
[What is|What's|Give me|Tell me|I need] the [Linux|shell|bash|terminal|] command to {q}[?|.|]
How do I {q}[ in Linux| in the terminal| with one command| on the command line|]?
How can I {q} [in bash|from the shell|on Linux|]?
[Which|What] command do I use to {q}?
Write [a|one|the] [Linux|shell|bash] command to {q}[.|]
Write a [one-liner|bash command|shell command] that does this: {q}
I [want|need|have] to {q}. [Command?|Which command?|What do I type?|Give only the command.]
[Please|Could you please|Can you] {q}[. Answer with the command only.|, just give the command.| (shell command).]
{Q}. [Only the command, please.|Reply with a single shell command.|Command only.|Give only the command.|One command.]
command: {q}
bash: {q}
terminal command, {q}
linux: how to {q}
[Hi|Hey|Hello], how would I {q} [in the shell|on Ubuntu|on my server]? [Thanks!|Thx|]
I'm on [Ubuntu|Debian|a server|the command line] and want to {q}. [What's the command?|Which command does that?]
What would I type in a terminal to {q}?
Turn this into a shell command: {q}
Translate to a Linux command: "{q}"
Using the shell, {q}.
Show me the command to {q}
[New to Linux here|Beginner question|Quick question]: how do I {q}?
My [colleague|boss] asked me to {q}. Which [shell|Linux] command [is it|does it]?
Give the exact [shell|Linux] command: {q}
[Need|Looking for] a command to {q}
In bash, {q}
As a shell command: {q}
I forgot the [command|syntax] to {q}
""".strip().splitlines()

HELD_TEMPLATES = """
On a Linux box, what do I enter at the prompt to {q}?
Bash command wanted: {q}
Is there a shell command with which I can {q}?
My task is to {q}; reply with nothing but the shell command
The server needs me to {q}. Type the Linux command for that.
Sysadmin question, one command as answer: how to {q}
Help me out in the terminal, I'd like to {q}
Could I get the command line to {q}, please?
For a shell script I must {q}. One line, no explanation.
Console command needed so that I can {q}
Tell me how one would {q} with a Linux command
""".strip().splitlines()

TRAIN_POOLS = {
    "stem": "report|notes|access|error|config|data|users|backup|index|main|setup|server|orders|results|summary|invoice|todo"
    "|output|input|deploy|build|install|test|log|debug|sales|customers|emails|numbers|words|readme|draft|letter|budget|plan"
    "|app|database|names|prices|scores|photo|list|settings|requests|history|start|run|update|export|temp|old|final|sample",
    "ext": "log|txt|csv|json|py|sh|md|html|xml|conf|yaml|tmp|bak|sql|js|css|jpg|png|pdf|mp3|java|ini|c|tex",
    "text": "log|txt|txt|csv|json|py|sh|md|html|xml|conf|yaml|bak|sql|js|css|ini|tex|dat",
    "name": "build|docs|src|images|backup|cache|logs|tests|node_modules|public|assets|current|latest|static|scripts|tmp|data"
    "|lib|vendor|uploads|archive|photos|music|old|dist|bin|templates|www|projects|reports|downloads|config",
    "root": "/var/log|/home/anna|/home/bob|/etc|/opt|/srv|/tmp|/usr/local|/mnt/data|/var/www|/data|~|/home/deploy|/var/lib",
    "word": "error|warning|TODO|password|failed|timeout|admin|hello|foo|import|connection|main|user|null|debug|http|root|deprecated"
    "|token|started|port|login|FIXME|version|exception|denied|apple|invoice|localhost|Berlin|retry|secret|class|blue|red",
    "user": "alice|bob|root|www-data|deploy|postgres|anna|nginx|admin|jenkins|carlos|guest",
    "proc": "nginx|firefox|python|java|node|redis-server|chrome|mysqld|apache2|gunicorn|vim|postgres",
    "here": "the current directory|this directory|the current folder|this folder",
}
HELD_POOLS = {
    "stem": "thesis|payroll|metrics|recipes|bookings|journal|members|audit|feedback|monitor|launch|inventory|stations",
    "ext": "rb|toml|svg|log|txt|csv|go|rst|php",
    "text": "log|txt|csv|toml|rst|sh|php",
    "name": "releases|fonts|drafts|migrations|snapshots|videos|plugins|worker|spool",
    "root": "/home/marta|/var/spool|/media/usb|/opt/tools|/srv/share|/var/cache",
    "word": "refused|orange|checkout|segfault|Madrid|banana|overflow|critical|license|shipment",
    "user": "marta|oliver|backup|grafana|tomcat",
    "proc": "thunderbird|celery|haproxy|ffmpeg|sshd",
    "here": "the current working directory|the directory I am in|the folder I'm in",
}

HELD_WRITTEN = [
    ("find /home/lisa -type f -name '*.mp4'", "linux cmd? i wanna find all the mp4 files under /home/lisa"),
    ("find . -type f -size +500M", "my disk is nearly full... how do i find files bigger than 500 MB in the current directory, shell command pls"),
    ("find /var/backups -type f -mtime +30", "Which command shows me files in /var/backups that are older than 30 days? Just the command."),
    ("grep -r 'api_key' src", "need to search for 'api_key' in all files under src, recursively. bash"),
    ("grep -i 'refund' mails.txt", "Terminal: look for 'refund' in mails.txt but ignore upper/lower case"),
    ("grep -n 'def train' model.py", "how do I see the line numbers where 'def train' occurs in model.py using grep"),
    ("tar -czf website.tar.gz /var/www/shop", "I want to back up my site tonight. Whats the command to pack /var/www/shop into website.tar.gz?"),
    ("tar -xzf drivers.tar.gz -C /opt/drivers", "unpack drivers.tar.gz into /opt/drivers, linux command only"),
    ("du -sh /home/kids", "hey how big is the folder /home/kids? command please"),
    ("df -h", "what do i type in linux to see how much free disk space i have left"),
    ("chmod +x backup_all.sh", "it says permission denied when i run backup_all.sh. how do i make it executable? just the command"),
    ("chmod 600 id_rsa", "ssh complains about my key, set permissions of id_rsa to 600 (bash)"),
    ("cp -r photos2023 /media/disk1", "copy the whole folder photos2023 to /media/disk1 - command?"),
    ("mv draft1.tex thesis_final.tex", "rename draft1.tex to thesis_final.tex pls, shell"),
    ("mv song.flac ~/Music", "how to move song.flac into ~/Music in the terminal?"),
    ("rm -r old_project", "Delete the directory old_project with everything in it. I'm sure. Just give me the linux command."),
    ("mkdir -p lectures/week3", "create folder lectures/week3 from command line, how"),
    ("head -n 25 passengers.csv", "give me the bash command for the first 25 lines of passengers.csv"),
    ("tail -n 200 /var/log/syslog", "Something crashed! I need to see the last 200 lines of /var/log/syslog, command?"),
    ("tail -f catalina.out", "whats the command to follow catalina.out live"),
    ("wc -l addresses.txt", "shell: how many lines does addresses.txt have"),
    ("kill -9 4312", "process 4312 hangs and wont stop, force kill it. linux command?"),
    ("kill 988", "terminal command to stop the process with pid 988"),
    ("pkill spotify", "how do i kill all spotify processes by name on ubuntu"),
    ("sed -i 's/colour/color/g' style.css", "replace 'colour' with 'color' everywhere in style.css (in place), one shell command"),
    ("diff old.conf new.conf", "I've got old.conf and new.conf. Which Linux command shows me the differences between the two?"),
]  # fmt: skip


def train(rng: random.Random, n: int) -> list[Question]:
    """`n` distinct questions, every operation equally often."""
    return _distinct(n, [], lambda i: _question(rng, OPERATIONS[i % len(OPERATIONS)], held=False))


def held_out(rng: random.Random, n: int) -> list[Question]:
    """`n` distinct questions from phrases, templates and names of their own, the hand-written ones first."""
    written = [Question(prompt, command, source="human") for command, prompt in HELD_WRITTEN]
    order = rng.sample(OPERATIONS, len(OPERATIONS))
    return _distinct(n, written, lambda i: _question(rng, order[i % len(order)], held=True))


def score(question: Question, output: str) -> bool:
    """Is the output the command? See the module docstring for what is normalised."""
    lines = [line for line in re.sub(r"```\w*\n", "", output).splitlines() if line.strip("` \t")]
    return bool(lines) and _words(lines[0]) == _words(question.answer)


def _words(command: str) -> list[str]:
    command = command.strip().strip("`").removeprefix("$ ").strip()
    try:
        words = shlex.split(command)
    except ValueError:  # an open quote
        words = command.split()
    return [word.rstrip("/") or word for word in words]


def _question(rng: random.Random, operation: Operation, held: bool) -> Question:
    values = _values(rng, HELD_POOLS if held else TRAIN_POOLS)
    phrase = expand(rng, rng.choice((operation.held if held else operation.train).split("||")))
    template = expand(rng, rng.choice(HELD_TEMPLATES if held else TRAIN_TEMPLATES))
    prompt = template.replace("{q}", phrase).replace("{Q}", phrase[:1].upper() + phrase[1:])
    if not held and rng.random() < 0.25:
        prompt = roughen(rng, prompt)
    prompt = re.sub(r"\{(\w+)\}", lambda found: values[found[1]][0], prompt)
    return Question(prompt, re.sub(r"\{(\w+)\}", lambda found: values[found[1]][1], operation.command))


def _values(rng: random.Random, pools: dict[str, str]) -> dict[str, tuple[str, str]]:
    """By slot: how the prompt says it and how the command writes it."""

    def pick(name: str) -> str:
        return rng.choice(pools[name].split("|"))

    def directory() -> str:
        return rng.choice(
            [pick("root"), f"{pick('root')}/{pick('name')}", pick("name"), f"{pick('name')}/{pick('name')}"]
        )

    def base(stem: str) -> str:
        return f"{stem}{rng.choice(['', '', '', '_1', '2', '-old', '_2024'])}.{pick('text')}"

    def two(name: str) -> list[str]:
        return rng.sample(pools[name].split("|"), 2)

    stems, words, ext = two("stem"), two("word"), pick("ext")
    archive = rng.choice([f"{stems[0]}.tar.gz", f"{pick('name')}.tar.gz", f"{pick('root')}/{stems[0]}.tar.gz"])
    unit = rng.choice("MMG")
    size = rng.randrange(1, 900 if unit == "M" else 20)
    size_said = f"{size}{rng.choice([unit, unit + 'B', ' ' + unit + 'B'])}"
    dir_a, dir_b = directory(), directory()
    while dir_b == dir_a:
        dir_b = directory()
    base_name = base(stems[0])
    here = (pick("here"), ".")
    same = {
        "file": rng.choice(["", "", "", f"{pick('root')}/", f"{pick('name')}/"]) + base_name,
        "base": base_name,
        "file_b": f"{stems[1]}.{pick('text')}",
        "dir": dir_a,
        "dir_b": dir_b,
        "name": pick("name"),
        "ext": ext,
        "word": words[0],
        "word_b": words[1],
        "archive": archive,
        "zip": f"{stems[0]}.zip",
        "days": str(rng.randrange(2, 100)),
        "n": str(rng.choice([5, 10, 20, 50, 100, rng.randrange(2, 500)])),
        "pid": str(rng.randrange(100, 33000)),
        "proc": pick("proc"),
        "user": pick("user"),
        "mode": rng.choice(["644", "755", "600", "700", "640", "750", "664", "775", "400", "444"]),
    }
    return {name: (value, value) for name, value in same.items()} | {
        "loc": here if rng.random() < 0.3 else (dir_a, dir_a),
        "size": (size_said, f"{size}{unit}"),
        "exts": (rng.choice([f".{ext} files", f"*.{ext} files", f"{ext} files"]), ext),
    }


def _distinct(n: int, first: list[Question], make: Callable[[int], Question]) -> list[Question]:
    questions = {question.prompt.casefold(): question for question in first}
    for i in range(n * 50):
        if len(questions) >= n:
            return list(questions.values())[:n]
        question = make(i)
        questions.setdefault(question.prompt.casefold(), question)
    raise ValueError(f"shell: only {len(questions)} distinct questions where {n} were asked for; ask for fewer")


DOMAIN = Domain(
    name="shell",
    summary="Writes the one Linux command for a request in English (find, grep, tar, chmod, cp, tail, kill, ...)",
    train=train,
    held_out=held_out,
    score=score,
    max_tokens=60,
    examples=5120,
)
