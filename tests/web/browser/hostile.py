"""Two hundred texts that would do harm on a page that takes text for anything but text. Each that could run a script counts `ran` up."""

from __future__ import annotations

from itertools import islice, product
from typing import Final

RUN: Final = "window.ran=1+(window.ran|0)"
MARKUP: Final = (
    "<script>{run}</script>",
    "</script><script>{run}</script>",
    "<img src=x onerror='{run}'>",
    "<svg onload='{run}'>",
    "<svg><script>{run}</script></svg>",
    "<svg><animate onbegin='{run}' attributeName=x dur=1s>",
    "<iframe srcdoc='<script>parent.{run}</script>'></iframe>",
    "<iframe src='javascript:parent.{run}'></iframe>",
    "<body onload='{run}'>",
    "<details open ontoggle='{run}'>",
    "<input autofocus onfocus='{run}'>",
    "<video><source onerror='{run}'></video>",
    "<object data='javascript:{run}'></object>",
    "<embed src='javascript:{run}'>",
    "<a href='javascript:{run}'>look</a>",
    "<form action='javascript:{run}'><button>go</button></form>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror='{run}'>",
    "<template><img src=x onerror='{run}'></template>",
    "<base href='https://example.invalid/'>",
    "<meta http-equiv=refresh content='0;url=javascript:{run}'>",
    "<link rel=stylesheet href='https://example.invalid/x.css'>",
    "<style>*{{display:none}}</style>",
    "<marquee onstart='{run}'>",
    "<x id=page><x id=nav><x id=toasts>",
    "<dialog open>hello</dialog>",
)
AROUND: Final = ("{0}", '"{0}', "'>{0}", '">{0}<!--', "]]>{0}", "&lt;{0}")
OTHERS: Final = (
    "javascript:{run}",
    "JaVaScRiPt:{run}",
    "java\tscript:{run}",
    " javascript:{run}",
    "data:text/html,<script>parent.{run}</script>",
    "vbscript:{run}",
    "//example.invalid/x.js",
    "https://example.invalid/x.js",
    "#/jobs/x?state=%00",
    "../../../etc/passwd",
    "..%2f..%2f",
    "?reveal=true",
    "' onmouseover='{run}' x='",
    '" autofocus onfocus="{run}" x="',
    "` onload=`{run}`",
    "${{{run}}}",
    "{{{{{run}}}}}",
    "<%= {run} %>",
    "#{{{run}}}",
    "{{{{constructor.constructor('{run}')()}}}}",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "undefined",
    "null",
    "[object Object]",
    "NaN",
    "-Infinity",
    "%s%n%x",
    "%00",
    "\\u0000",
    "\\",
    "'; DROP TABLE jobs; --",
    "$(reboot)",
    "a\nb\r\nc",
    "\u202egnp.exe",
    "\u2066hidden\u2069",
    "\u200b\u200c\u200d",
    "\ufeffmark",
    "שלום עולם",
    "مرحبا بالعالم",
    "日本語のテキスト",
    "👩‍👩‍👧‍👦" * 3,
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢",
    "ﷺ",
    "ﬁ ﬂ Ǆ",
    "\u0130\u0131\u017f\u212a",
    "\U000e0041\U000e0042",
    "word " * 90,
    "x" * 450,
    "\u0001\u0007\u001b[31m",
)


def hostile() -> list[str]:
    """Return the two hundred, all different."""
    marked = (around.format(text.format(run=RUN)) for around, text in product(AROUND, MARKUP))
    found = [*(text.format(run=RUN) for text in OTHERS), *marked]
    return list(islice(dict.fromkeys(found), 200))
