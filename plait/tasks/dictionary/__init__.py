"""The tasks of the picture dictionary: drawings, photographs, human speech and many languages.

A task makes its items from a *group*: the assets of one split that share a key, such as all drawings, names and recordings
of one concept. A group lies in one split as a whole, so no task needs to know what is held out.
"""

from plait.tasks.dictionary.group import LANGUAGES, Group, GroupTask
from plait.tasks.dictionary.pictures import TASKS as PICTURES
from plait.tasks.dictionary.speech import TASKS as SPEECH
from plait.tasks.dictionary.words import TASKS as WORDS

TASKS: tuple[GroupTask, ...] = (*PICTURES, *SPEECH, *WORDS)
BY_NAME = {task.name: task for task in TASKS}

__all__ = ["BY_NAME", "LANGUAGES", "TASKS", "Group", "GroupTask"]
