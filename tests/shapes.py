"""The type checker that tests run with: beartype, with integers where floats are expected."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
