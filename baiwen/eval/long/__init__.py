"""Long context: what a model finds in texts of any length, on prompts of an exact one.

    haystack     the text that things are hidden in: sentences in ids, words for keys
    puzzle       what is asked and what it is hidden in; its prompt, to the token
    passkey      a grid of depth and length
    needles, tracking, words, questions        the 13 tasks of RULER; `ruler` names them
    marks        the official metric, and one that listing everything does not win
    cells        which task, at which length and depth; all of them made before one is asked
    answers      cells asked through the engine; a run that was killed goes on
    scores       both marks by task, length and depth
    published    what the report measured of the published models

Source of RULER's formats and parameters: Hsieh et al., "RULER: What's the Real Context Size of Your
Long-Context Language Models?" (2024), and its generators at github.com/NVIDIA/RULER (Apache-2.0).
"""
