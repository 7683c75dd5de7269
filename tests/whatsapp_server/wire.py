"""The wire format of protocol buffers, for Signal's messages, whose definitions the client's package does not carry."""

VARINT, LENGTH_DELIMITED = 0, 2

Fields = dict[int, int | bytes]


def _write_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return number, position


def write_fields(fields: Fields) -> bytes:
    """Encode numbers and byte strings by field number."""
    parts = []
    for name, value in fields.items():
        if isinstance(value, int):
            parts += [_write_varint(name << 3 | VARINT), _write_varint(value)]
        else:
            parts += [_write_varint(name << 3 | LENGTH_DELIMITED), _write_varint(len(value)), value]
    return b"".join(parts)


def read_fields(data: bytes) -> Fields:
    """Decode what `write_fields` has written; raises `ValueError` for other kinds of fields."""
    fields: Fields = {}
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        value, position = _read_varint(data, position)
        if key & 7 == LENGTH_DELIMITED:
            fields[key >> 3] = data[position : position + value]
            position += value
        elif key & 7 == VARINT:
            fields[key >> 3] = value
        else:
            raise ValueError(f"field {key >> 3} has the unexpected wire type {key & 7}")
    return fields
