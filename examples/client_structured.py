"""Have the answer in a form of your own: a pydantic class is sent as its JSON schema and reads the answer."""

from pydantic import BaseModel

from coe_client import Coe


class Contact(BaseModel):
    name: str
    phone: str


with Coe() as coe:
    answer = coe.chat("Extract the contact: call Mira Stone on 0171 223344", response_format=Contact)
    contact = answer.parse(Contact)
    print(f"{contact.name}: {contact.phone}")
