"""Answers that people and models write, with what they should be judged: (group, gold, text, verdict)."""

from __future__ import annotations

RIGHT, WRONG, UNPARSED = "right", "wrong", "unparsed"
PM = "\\text{4:30 p.m.}"
MATRIX = "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}"
COLUMN = "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"


def boxed(
    group: str, gold: str, right: tuple[str, ...], wrong: tuple[str, ...] = ()
) -> list[tuple[str, ...]]:
    """Boxed answers to one gold."""
    return [
        (group, gold, f"So $\\boxed{{{a}}}$.", v)
        for v, some in ((RIGHT, right), (WRONG, wrong))
        for a in some
    ]


ANSWERS: list[tuple[str, ...]] = [
    *boxed(
        "percent",
        "25\\%",
        ("0.25", "25", "25\\%", "25 \\text{ percent}"),
        ("2.5", "0.025\\%", "26\\%"),
    ),
    *boxed("percent", "0.25", ("25\\%", "\\frac{1}{4}"), ("75\\%",)),
    *boxed(
        "currency",
        "18",
        ("\\$18", "\\$18.00", "18 \\text{ dollars}", "€18", "18€", "£18", "18 \\$"),
        ("\\$180",),
    ),
    *boxed(
        "units",
        "100",
        ("100 \\text{ cm}^2", "100\\ \\text{m/s}", "100 \\mathrm{~cm}^2", "100 km"),
        ("10 \\text{ m}",),
    ),
    *boxed(
        "thousands",
        "1250000",
        (
            *(
                "1,250,000",
                "1{,}250{,}000",
                "1\\,250\\,000",
                "1 250 000",
                "1'250'000",
                "1_250_000",
                "1\\ 250\\ 000",
            ),
            *(
                "1~250~000",
                "1.250.000",
                "1\u202f250\u202f000",
                "1\u00a0250\u00a0000",
                "1,\\!250,\\!000",
                "1250000.00",
            ),
            *("1.25 \\text{ million}", "1.25 million"),
        ),
        ("1,250", "1.25", "125 0000", "1,250,001"),
    ),
    *boxed(
        "scientific",
        "1250000",
        ("1.25e6", "1.25E+6", "1.25\\times10^6", "1.25 \\cdot 10^{6}"),
        ("1.25e5",),
    ),
    *boxed(
        "scientific", "0.00032", ("3.2\\times10^{-4}", "3.2e-4", "3.2×10⁻⁴"), ("3.2\\times10^{-5}",)
    ),
    *boxed(
        "mixed",
        "3\\frac{1}{2}",
        ("3 1/2", "\\frac{7}{2}", "3.5", "3 \\dfrac12", "3½"),
        ("\\frac{3}{2}", "31/2"),
    ),
    *boxed("mixed", "-3\\frac{1}{2}", ("-3.5", "-\\frac{7}{2}", "-3 1/2"), ("-2.5", "3.5")),
    *boxed(
        "intervals",
        "[0,1)",
        ("[0, 1)", "[0,1[", "\\left[0,1\\right)", "0 \\le x < 1"),
        ("(0,1]", "[0,1]", "]0,1["),
    ),
    *boxed(
        "intervals",
        "(-\\infty,3]",
        ("]-\\infty,3]", "x \\le 3", "x\\leq3", "3 \\geq x", "(-∞,3]", "x≤3", "x\\in(-\\infty,3]"),
        ("x<3", "x \\ge 3", "(-\\infty,3)", "[3,\\infty)"),
    ),
    *boxed(
        "intervals",
        "(-\\infty,3)\\cup(5,\\infty)",
        ("(5,\\infty)\\cup(-\\infty,3)", "x<3 \\text{ or } x>5", "(-\\infty, 3) ∪ (5, +\\infty)"),
        ("(-\\infty,3)\\cup[5,\\infty)", "x<3 \\text{ or } x\\ge5", "(3,5)"),
    ),
    *boxed(
        "sets",
        "\\{1,2,3\\}",
        ("\\{3,1,2\\}", "3,1,2", "\\left\\{1, 2, 3\\right\\}"),
        ("\\{1,2\\}", "\\{1,2,4\\}"),
    ),
    *boxed("sets", "1,2,3", ("3,2,1", "1, 2, \\text{ and } 3"), ("1,2", "1,2,3,4")),
    *boxed(
        "tuples", "(3,5)", ("(3, 5)", "\\left(3,5\\right)", "x=3, y=5"), ("(5,3)", "(3,5,0)", "8")
    ),
    *boxed("tuples", "\\left(3,\\frac{\\pi}{2}\\right)", ("(3,\\pi/2)", "(3, π/2)"), ("(3,\\pi)",)),
    *boxed(
        "matrices",
        MATRIX,
        (
            MATRIX.replace("pmatrix", "bmatrix"),
            MATRIX.replace(" ", ""),
            "\\left(\\begin{array}{cc}1&2\\\\3&4\\end{array}\\right)",
        ),
        (MATRIX.replace("4", "5"), "\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}"),
    ),
    *boxed(
        "matrices",
        COLUMN,
        (COLUMN.replace("pmatrix", "matrix"),),
        ("\\begin{pmatrix}1&2\\end{pmatrix}",),
    ),
    *boxed("equations", "5", ("x=5", "n = 5", "P(A)=5"), ("x=6",)),
    *boxed("equations", "x=5", ("5",), ("x=6", "6")),
    *boxed("equations", "y=2x+3", ("2x+3", "y = 3+2x"), ("y=2x-3",)),
    *boxed("plus or minus", "3,-3", ("\\pm 3", "\\pm3", "-3, 3", "±3"), ("3", "\\pm 2")),
    *boxed("plus or minus", "\\pm\\sqrt{2}", ("\\{-\\sqrt2,\\sqrt2\\}",), ("\\sqrt2",)),
    *boxed("plus or minus", "2\\pm\\sqrt{3}", ("2+\\sqrt3, 2-\\sqrt3",), ("2+\\sqrt3",)),
    *boxed("ranges", "2-5", ("2\\text{ to }5", "2 to 5", "2–5"), ("2-6", "7-10")),
    *boxed(
        "repeating",
        "\\frac13",
        ("0.\\overline{3}", "0.333...", "0.\\bar{3}", "0.(3)", "0.333…"),
        ("0.33", "0.3"),
    ),
    *boxed(
        "repeating", "0.\\overline{27}", ("\\frac{3}{11}", "0.2727..."), ("0.27", "\\frac{27}{100}")
    ),
    *boxed("repeating", "\\frac{1}{6}", ("0.1\\overline{6}", "0.1666..."), ("0.\\overline{16}",)),
    *boxed(
        "degrees",
        "90^\\circ",
        ("90", "90°", "90^{\\circ}", "90 \\text{ degrees}"),
        ("91^\\circ", "9^\\circ"),
    ),
    *boxed(
        "times",
        PM,
        ("4:30 PM", "4:30 \\text{ pm}", "16:30", "4:30 p.m"),
        ("4:30 a.m.", "4:35 p.m.", "4:30"),
    ),
    *boxed("times", "4:30", ("4:30", "4:30 \\text{ PM}"), ("4:35", "5:30")),
    *boxed("words", "\\text{Saturday}", ("Saturday", "\\textbf{saturday}"), ("Sunday",)),
    *boxed(
        "words",
        "7",
        ("\\text{The answer is } 7", "\\mathbf{7}", "7.", " 7 \\, ", "7 \\;"),
        ("\\text{It is } 8",),
    ),
    *boxed(
        "none",
        "\\emptyset",
        ("\\varnothing", "\\{\\}", "∅", "\\text{no solution}"),
        ("0", "\\{0\\}"),
    ),
    *boxed("letters", "\\text{(B)}", ("B", "\\text{B}", "(B)", "\\textbf{(B)}"), ("C", "(A)")),
    *boxed(
        "decimals", "0.5", (".5", "0.50", "\\frac12", "\\frac{2}{4}", "50\\%"), (".05", "5", "0.51")
    ),
    *boxed("signs", "-18", ("−18", "–18", "- 18", "-18.0"), ("18", "+18")),
    *boxed(
        "full width",
        "18",
        ("１８", "1８", "１８．０", "۱۸", "\u200b18", "1\u200b8", "\x0018"),
        ("１９", "\u202e81", "1O", "l8"),
    ),
    *boxed(
        "roots", "\\sqrt{2}", ("√2", "2^{1/2}", "\\sqrt2", "\\frac{2}{\\sqrt{2}}"), ("√3", "1.41")
    ),
    *boxed(
        "typed",
        "x^2+2x+1",
        ("x²+2x+1", "(x+1)^2", "x**2 + 2*x + 1", "(x+1)²"),
        ("x^2+2x", "(x-1)^2"),
    ),
    ("boxes", "3,5", "\\boxed{3} and \\boxed{5}", RIGHT),
    ("boxes", "3", "\\boxed{3} and \\boxed{5}", WRONG),
    ("boxes", "18", "\\boxed{17}. No, wait: \\boxed{18}", RIGHT),
    ("boxes", "18", "\\boxed{18}. No, wait: \\boxed{17}", WRONG),
    ("boxes", "18", "\\fbox{18}", RIGHT),
    ("boxes", "18", "\\boxed{18", UNPARSED),
    ("marks", "18", "48/2 = <<48/2=24>>24\n#### 18", RIGHT),
    ("marks", "1000", "#### 1,000", RIGHT),
    ("marks", "18", "**Final answer:** $18$", RIGHT),
    ("marks", "7", "Final Answer: The final answer is $7$. I hope it is correct.", RIGHT),
    ("think", "18", "<think>\\boxed{17}</think>The answer is \\boxed{18}.", RIGHT),
    ("think", "18", "<think>\\boxed{17}</think>I am done.", UNPARSED),
    ("think", "18", "<think>\\boxed{18}</think>", UNPARSED),
    ("think", "18", "<think>It may be 18, or it may be 19, so", UNPARSED),
    ("think", "18", "<think>\\boxed{18} but wait", UNPARSED),
    ("think", "18", "<think>a</think><think>\\boxed{19}</think>\\boxed{18}", RIGHT),
    ("letters", "B", "The answer is (B).", RIGHT),
    ("letters", "B", "The answer is C.", WRONG),
    *boxed(
        "small",
        "10^{-30}",
        ("\\frac{1}{10^{30}}", "10^{-15} \\cdot 10^{-15}"),
        ("10^{-31}", "0", "2 \\cdot 10^{-30}"),
    ),
    *boxed(
        "small",
        "\\frac{1}{18!}",
        ("\\frac{1}{18 \\cdot 17!}",),
        ("\\frac{1}{19!}", "\\frac{2}{18!}"),
    ),
    *boxed("small", "x+10^{-25}", ("10^{-25}+x",), ("x+10^{-24}", "x")),
    *boxed("small", "(10^{-25},3)", ("(\\frac{1}{10^{25}}, 3)",), ("(10^{-24},3)",)),
    *boxed(
        "small",
        "\\begin{pmatrix} 10^{-25} \\\\ 3 \\end{pmatrix}",
        (),
        ("\\begin{pmatrix} 10^{-24} \\\\ 3 \\end{pmatrix}",),
    ),
    *boxed("small", "0.00000004", ("4 \\cdot 10^{-8}",), ("0.00000005", "0")),
    *boxed("small", "\\sqrt{27}", ("3\\sqrt{3}", "5.196152"), ("5.1961", "\\sqrt{27}+10^{-20}")),
    *boxed(
        "small",
        "\\pi \\cdot 10^{-8}",
        ("\\frac{\\pi}{10^8}",),
        ("3 \\cdot 10^{-8}", "\\pi \\cdot 10^{-9}"),
    ),
    *boxed("rounded", "\\frac{2}{3}", ("0.666667",), ("0.666666", "0.67")),
    *boxed("rounded", "2.7182818", ("2.718282",), ("2.7182819", "2.718281")),
    *boxed(
        "sets",
        "\\{4,9\\}",
        ("\\{9,4\\}", "9, 4", "\\left\\{4,\\,9\\right\\}"),
        ("(4,9)", "[4,9]", "\\{4\\}"),
    ),
    *boxed("sets", "(4,9)", ("( 4, 9 )",), ("\\{4,9\\}", "(9,4)", "\\lbrace 4,9 \\rbrace")),
    *boxed("sets", "S=\\{4,9\\}", ("\\{4,9\\}",), ("(4,9)",)),
    *boxed("words", "SW", ("\\text{SW}", "sw"), ("WS", "\\text{WS}", "S")),
    *boxed("words", "TTH", ("TTH",), ("THT", "HTT")),
    *boxed("words", "dog", ("dog", "\\text{dog}"), ("god",)),
    *boxed("words", "mn", ("nm", "m \\cdot n"), ("m+n",)),
    *boxed("words", "pqr", ("rqp", "pqr"), ("pq",)),
    *boxed(
        "bases",
        "110_2",
        ("110_{2}", "(110)_2", "110_{\\text{two}}", "110_\\text{two}"),
        ("110_3", "110", "110_{10}", "111_2"),
    ),
    *boxed("bases", "3A_{16}", ("3a_{16}",), ("3A_{12}", "3A")),
    *boxed("bases", "a_1", ("a_{1}",), ("a_2",)),
    *boxed(
        "dots",
        "2,4,\\ldots,20",
        ("2, 4, ..., 20", "2,4,\\dots,20", "2,4,\\cdots,20", "2,4,6,\\ldots,20"),
        ("2,4,20", "2,4,\\ldots,22", "2,3,\\ldots,20"),
    ),
    *boxed("dots", "5,6,\\ldots,8", ("5,6,7,8",), ("5,6,8",)),
    *boxed(
        "dots",
        "7,9,11,\\ldots",
        ("7,9,11,...", "7, 9, 11, 13, \\dots"),
        ("7,9,11", "7,10,13,\\ldots"),
    ),
    *boxed("dots", "a_1,\\ldots,a_n", ("a_1, \\dots, a_n",), ("a_1, a_n",)),
    *boxed(
        "rows",
        COLUMN,
        (
            "\\begin{pmatrix} 1 \\\\[4pt] 2 \\end{pmatrix}",
            "\\begin{bmatrix} 1 \\\\[0.5em] 2 \\end{bmatrix}",
            "\\begin{smallmatrix} 1 \\\\ 2 \\end{smallmatrix}",
        ),
        ("\\begin{pmatrix} 1 \\\\[4pt] 3 \\end{pmatrix}",),
    ),
    *boxed(
        "complex",
        "-i",
        ("i^3", "\\frac{1}{i}", "e^{-i\\pi/2}", "e^{-\\mathrm{i}\\pi/2}"),
        ("i", "1", "i^2"),
    ),
    *boxed("complex", "13", ("(3+2i)(3-2i)", "9-4i^2"), ("9+4i^2",)),
    *boxed(
        "degrees",
        "\\frac{\\sqrt{3}}{2}",
        ("\\sin 60^\\circ", "\\cos(30^\\circ)", "\\sin 60°"),
        ("\\sin 30^\\circ", "\\sin 60"),
    ),
    *boxed("degrees", "\\frac34", ("\\sin^2 60^\\circ",), ("\\cos^2 60^\\circ",)),
    *boxed(
        "numerals",
        "67",
        ("\\text{sixty-seven}", "六十七", "sixty-seven"),
        ("\\text{sixty-eight}", "六十八"),
    ),
    *boxed(
        "numerals",
        "\\frac{13}{4}",
        ("3 \\text{ and a quarter}", "\\text{three and one quarter}"),
        ("3 \\text{ and a half}",),
    ),
    *boxed("numerals", "\\text{twenty}", ("20",), ("21",)),
    *boxed("small", "10^{40}", ("10^{20} \\cdot 10^{20}",), ("10^{40}+10^{-25}", "10^{40}+1")),
    *boxed("small", "\\sin(10^{-25})", (), ("10^{-25}",)),
    *boxed("words", "TTH, HTT", ("HTT, TTH",), ("THT, HTT", "TTH")),
    *boxed("bases", "1.1_2", ("1.1_{2}",), ("1.1_4", "1.1")),
    *boxed(
        "bases", "77_8", ("77 \\text{ (base 8)}", "77_{\\text{eight}}"), ("77 \\text{ (base 9)}",)
    ),
    *boxed(
        "dots",
        "\\ldots,-4,-2,0",
        ("..., -4, -2, 0", "\\dots,-6,-4,-2,0"),
        ("-4,-2,0", "\\ldots,-3,-2,0"),
    ),
    *boxed(
        "dots",
        "\\ldots,-3,0,3,\\ldots",
        ("...,-3,0,3,...", "\\dots, 0, 3, 6, \\dots"),
        ("-3,0,3", "\\ldots,-2,0,2,\\ldots"),
    ),
    *boxed(
        "rows",
        COLUMN,
        ("\\begin{pmatrix} 1 \\cr 2 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\* 2 \\end{pmatrix}"),
    ),
    *boxed(
        "degrees",
        "60^\\circ",
        ("\\frac{\\pi}{3}", "\\arctan(\\sqrt{3})", "60"),
        ("\\frac{\\pi}{6}",),
    ),
    *boxed("degrees", "\\frac{\\pi}{5}", ("36^\\circ",), ("35^\\circ",)),
    *boxed(
        "degrees",
        "\\frac12",
        ("\\cos(20^\\circ + 40^\\circ)", "\\sin(30\\text{ degrees})"),
        ("\\cos(20^\\circ + 30^\\circ)",),
    ),
    *boxed("numerals", "\\frac{3}{4}", ("四分之三",), ("三分之四",)),
    *boxed("numerals", "1.5", ("一点五",), ("一点六",)),
    (
        "placeholder",
        "67",
        "So \\boxed{67}. I wrote it in \\boxed{\\text{your answer}} as asked.",
        RIGHT,
    ),
    ("doubled", "\\frac{2}{3}", "So \x08oxed{\x0crac{2}{3}}.", RIGHT),
    ("doubled", "\\frac{2}{3}", "So \\\\(x\\\\) is \\\\boxed{\\\\dfrac{2}{3}}.", RIGHT),
    ("doubled", "\\sqrt{5}", "The answer is $\\\\sqrt{5}$.", RIGHT),
    ("doubled", COLUMN, "\\\\boxed{\\\\begin{pmatrix} 1 \\\\\\\\ 2 \\\\end{pmatrix}}", RIGHT),
    ("doubled", "\\sqrt{5}", "\\\\boxed{\\\\sqrt{6}}", WRONG),
]

TOO_LARGE = (
    *(
        "10^10^10",
        "10^{10^{10}}",
        "10^{(10^{10})}",
        "9**9**9**9",
        "2^{2^{2^{2^{2^{2}}}}}",
        "3^{4^{5^{6}}}",
        "7^{7^7}",
    ),
    *(
        "((9!)!)!",
        "(((3!)!)!)!",
        "9!!!!!!!",
        "10^{10!}",
        "(10!)^{10!}",
        "(2^{100})!",
        "99999999!",
        "1e999999999",
    ),
    *(
        "(1+x)^{5000}",
        "(x+y+z)^{300}",
        "\\binom{1000000000}{500000000}",
        "\\Gamma(1000000000)",
        "1.5^{10^9}",
    ),
    *(
        "(" * 490 + "1" + ")" * 490,
        "\\sin(" * 150 + "x" + ")" * 150,
        "\\frac{1}{" * 120 + "1" + "}" * 120,
    ),
    *(
        "9" * 10_000_000,
        "\\sqrt{" * 2_000_000,
        "{" * 900,
        "\\" * 901,
        "$" * 900,
        "\\boxed{" * 100 + "1" + "}" * 100,
    ),
)
