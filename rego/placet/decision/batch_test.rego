package placet.decision_test

import data.placet.decision
import data.placet.fixtures_test as fixtures

test_batch_answers_each_document_under_its_id if {
	closed := fixtures.replaced("/session/state", "closed")
	answers := decision.batch with input as {"items": {"a": fixtures.document, "b": closed, "c": {}}}
	answers.a == decision.decision with input as fixtures.document
	answers.b == decision.decision with input as closed
	answers.c == decision.decision with input as {}
	answers.a.effect == "allow"
	answers.b.effect == "block"
	object.keys(answers) == {"a", "b", "c"}
}

test_batch_answers_nothing_for_nothing if {
	decision.batch == {} with input as {"items": {}}
	decision.batch == {} with input as {}
}
