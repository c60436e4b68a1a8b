"""LZString's compressToEncodedURIComponent, the decoding half: what the bank's library puts into `?params=`.

LZ78 over UTF-16 code units. Codes of growing width, low bit first, packed six bits a character, high bit
first. Codes 0 and 1 announce a unit seen for the first time (8 or 16 bits follow), 2 ends the text, the
rest are phrases. Called by pay_object only. Reads the bits from integers, 240 at a time; the output is
bounded, so that a short text can't become a long one.
"""

import binascii

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

# LZString's alphabet is base64's with another last letter, and a query string's decoding has made + a space.
# Whatever else stands there becomes "!", which strict base64 refuses.
_TO_BASE64 = bytes(
    _BASE64[_ALPHABET.index(letter)] if letter in _ALPHABET else ord("+" if letter == ord(" ") else "!")
    for letter in range(256)
)
# Base64 gives bytes with the first bit highest; codes come low bit first.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_CHUNK_BYTES = 30

_UNIT_8, _UNIT_16, _END = 0, 1, 2


def decompress(text: str, output_max: int) -> str:
    """The text that compressToEncodedURIComponent made `text` of. LZString itself ignores what follows the
    end mark.

    Raises ValueError if `text` is empty, truncated or no LZString, if the output has more than `output_max`
    UTF-16 units, or if it holds half a surrogate pair. The caller bounds the length of `text`.
    """
    bits = _mirrored_bits(text)
    bits_left = 6 * len(text)
    position = 0
    window = 0  # the next bits, lowest first
    window_bits = 0

    phrases = ["", "", ""]  # the first three codes are marks
    width = 2
    room = 1  # codes left before they grow by one bit; the first one is always a mark
    previous = ""
    output: list[str] = []
    output_units = 0

    while True:
        if window_bits < width + 16:  # one code and the longest unit behind it
            window |= int.from_bytes(bits[position : position + _CHUNK_BYTES], "little") << window_bits
            window_bits += 8 * _CHUNK_BYTES
            position += _CHUNK_BYTES
        code = window & ((1 << width) - 1)
        used = width
        if code == _END:
            if used > bits_left:
                raise ValueError("the LZString text is truncated")
            break
        if code > _END:
            if code < len(phrases):
                phrase = phrases[code]
            elif code == len(phrases) and previous:
                phrase = previous + previous[0]
            else:
                raise ValueError("the LZString text names a phrase it has not defined")
        else:
            unit_bits = 8 if code == _UNIT_8 else 16
            phrase = chr((window >> width) & ((1 << unit_bits) - 1))
            used += unit_bits
            phrases.append(phrase)
            room -= 1
            if room == 0:
                room = 1 << width
                width += 1
        bits_left -= used
        if bits_left < 0:
            raise ValueError("the LZString text is truncated")
        window >>= used
        window_bits -= used

        output.append(phrase)
        output_units += len(phrase)
        if output_units > output_max:
            raise ValueError(f"the LZString text is longer than {output_max} characters when decompressed")
        if previous:
            phrases.append(previous + phrase[0])
            room -= 1
            if room == 0:
                room = 1 << width
                width += 1
        previous = phrase

    return _join_surrogates("".join(output))


def _mirrored_bits(text: str) -> bytes:
    """The stream of bits as bytes, its first bit the lowest one of the first byte; padded with zeros."""
    try:
        letters = text.encode("ascii").translate(_TO_BASE64)
        data = binascii.a2b_base64(letters + b"A" * (-len(letters) % 4), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        raise ValueError("the LZString text has a character outside its alphabet") from None
    return data.translate(_MIRRORED)


def _join_surrogates(units: str) -> str:
    """UTF-16 code units, one a character → text."""
    if units.isascii():
        return units
    try:
        return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise ValueError("the LZString text holds half a surrogate pair") from None
