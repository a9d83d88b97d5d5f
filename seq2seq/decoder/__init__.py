"""The decoder: a recurrent language model of the target that reads the source through attention.

To read it, begin with `decoder`; `state` is what its steps hand on, in which a beam has several rows for a sentence.
"""

from seq2seq.decoder.decoder import Decoded, Decoder
from seq2seq.decoder.state import DecoderState

__all__ = ["Decoded", "Decoder", "DecoderState"]
