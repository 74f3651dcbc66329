"""Streets, houses, storeys and school classes."""

from georgian_readings import readings

from xtts_ka.georgian.text import normalise


@readings("places")
def test_texts_are_read_as_a_georgian_reads_them_and_readings_stay_as_they_are(written, reading):
    assert normalise(written) == reading
    assert normalise(reading) == reading
