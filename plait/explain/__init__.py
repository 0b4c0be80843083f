"""What an answer hangs on: which words, pieces of pictures and seconds of sound of what was given (docs/explaining.md).

units.py         what is given, in pieces that can be hidden
scorer.py        how well the model does a target, an answer or a token of one, with pieces hidden
tracing.py       a pass of the model whose attention and gradients can be looked into
methods.py       how much each piece matters, by several methods behind one interface
faithfulness.py  whether what a method says is so: deletion and insertion, beside random order
explanation.py   one answer explained
layers.py        hidden states after every layer, by taps for the length of one pass
lens.py          what the answer would be if the model ended after each layer
probing.py       what can be told from the layers by linear probes
patching.py      in which tokens, after which layers, an answer is: states of a question in its counterfactual
view.py, lens_view.py, patching_view.py  what layers make, as tables
page.py          an explanation as a page
"""
