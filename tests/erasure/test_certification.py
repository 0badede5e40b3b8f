"""Certificates of the ledger's decisions: what they say of purges, and of models that are gone."""

import shutil

import pytest


def test_a_purge_counts_for_the_decision_before_it(bench):
    bench.drop("a")
    bench.serve(purge=True)
    assert bench.certify()["a"].done.purged
    bench.drop("a")
    bench.serve(rollback_to=bench.ledger.lines()[0].model_before)
    bench.fails = lambda attempt, subjects: True
    bench.serve()
    certificate = bench.certify()["a"]
    assert certificate.done.decision == "failed"
    assert not certificate.done.purged
    assert any("are still kept with the run" in sentence for sentence in certificate.not_proven)


@pytest.mark.parametrize("is_certified", [True, False])
def test_a_model_that_was_deleted_stops_no_other_certificate(bench, is_certified, caplog):
    for one in "ab":
        bench.drop(one)
    bench.serve()
    files = bench.certify()["a"].model.files
    shutil.rmtree(bench.models.place(bench.ledger.lines()[0].model_after))
    if not is_certified:
        (bench.path / "certificates" / "a.json").unlink()
    bench.serve(purge=True)
    certificates = bench.certify()
    assert certificates["b"].done.purged
    if is_certified:
        assert certificates["a"].done.purged
        assert certificates["a"].model.files == files
    else:
        assert "a" not in certificates
        assert "Request a gets no certificate: " in caplog.text
