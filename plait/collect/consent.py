"""What people agree to before they give anything: a text, its version, and purposes of which some are needed and some are not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from plait.errors import ConfigError, DataError

LONGEST = 50_000  # characters
TRAIN, SHARE, VOICE = "train", "share", "voice"
PURPOSES = {
    TRAIN: "Models may be trained on what I give. (Without this nothing can be kept.)",
    SHARE: "What I give may be handed on to others under the licence.",
    VOICE: "My voice may be told from others': a voiceprint is data about my body.",
}
NEEDED = (TRAIN,)
TEXT = """What you draw, photograph, record or write here is kept by whoever runs this page, to train models of text, pictures and sound.

- You choose below what it may be used for. You need not give anything, and there is no harm if you do not.
- Others who take part here see and hear single pieces, without your name, to say whether they will do.
- You can take back one piece, or all, at any time under "Yours", without a reason. It is then removed from here and from the data sets that were written from here, and is not in the next training. Models that were trained before are listed, but do not forget by it.
- A purpose that you untick later is left out from then on. What was written for it before stays as it was, until you take the pieces back.
- Do not give what shows or names other people, or what is not yours to give.

Licence of what is handed on: {licence}.
"""


TRANSLATIONS = {
    "zh": (
        """您在此绘制、拍摄、录制或书写的内容，由运行本页面的人保存，用于训练文字、图片和声音模型。

- 您在下面选择可以用于什么。您不必提供任何内容，不提供也没有任何不利。
- 参与者会看到、听到单个内容（不含您的名字），以判断是否合格。
- 您可以随时在“我的”页撤回一项或全部，无需理由。内容会从这里以及由此写出的数据集中删除，不会进入下一次训练。此前训练的模型会被列出，但不会因此遗忘。
- 之后取消勾选的用途，自那时起不再使用。此前为该用途写出的内容保持不变，直到您撤回为止。
- 请勿提供显示或提及他人的内容，或不属于您的内容。

对外发布内容的许可：{licence}。

（译文；以英文原文为准。）
""",
        {
            TRAIN: "可以用我提供的内容训练模型。（不同意则无法保存任何内容。）",
            SHARE: "可以按该许可把我提供的内容转交他人。",
            VOICE: "可以把我的声音与他人的声音区分开：声纹是关于我身体的数据。",
        },
    )
}


@dataclass(frozen=True)
class Consent:
    """The text that people agree to. `licence`: that of what is handed on, where it is another than when the text was new. `version`: the first
    digits of their hash, so that another text, or another licence, is another version."""

    text: str
    licence: str = ""

    @property
    def version(self) -> str:
        """Twelve hexadecimal digits of the hash of the text, the licence if any, and the purposes."""
        agreed = [self.text, *filter(None, [self.licence]), *PURPOSES, *PURPOSES.values()]
        return hashlib.sha256("\n".join(agreed).encode()).hexdigest()[:12]


def translations(text: str, licence: str) -> dict[str, dict[str, object]]:
    """The purposes in other languages, and the text where it is ours, by language. The version is that of the original, which holds."""
    is_ours = text == TEXT.format(licence=licence)
    return {
        language: {"purposes": purposes} | ({"terms": terms.format(licence=licence)} if is_ours else {})
        for language, (terms, purposes) in TRANSLATIONS.items()
    }


def read(path: Path | None, licence: str) -> Consent:
    """The consent in a file, or ours. Raises DataError."""
    if path is None:
        return Consent(TEXT.format(licence=licence))
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: {getattr(error, 'strerror', None) or error}; expected a text in UTF-8 that people agree to"
        ) from error
    if not 100 <= len(text) <= LONGEST:
        raise DataError(
            f"{path} has {len(text)} characters; expected 100 to {LONGEST}: what is kept, what for, how it is taken back"
        )
    return Consent(text)


def checked(purposes: Iterable[str]) -> tuple[str, ...]:
    """Purposes in their order. Raises ConfigError for an unknown one, or where one is missing that is needed."""
    chosen = set(purposes)
    if unknown := chosen - set(PURPOSES):
        raise ConfigError(f"got the purposes {sorted(unknown)}; expected some of {', '.join(PURPOSES)}")
    if missing := [name for name in NEEDED if name not in chosen]:
        raise ConfigError(
            f"the purpose {missing[0]!r} is not agreed to; without it nothing can be kept, so give nothing"
        )
    return tuple(name for name in PURPOSES if name in chosen)
