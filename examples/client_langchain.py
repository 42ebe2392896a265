"""The service in a LangChain chain. Needs `coe-client[langchain]`."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from coe_client import Options
from coe_client.langchain import ChatCoE

model = ChatCoE(coe=Options(explain=True), temperature=0)
prompt = ChatPromptTemplate.from_messages([("system", "Answer with SQL alone."), ("user", "{question}")])

message = (prompt | model).invoke({"question": "Which SQL counts users?"})
print(message.text)
print(message.response_metadata["route"]["reason"])

for text in (prompt | model | StrOutputParser()).stream({"question": "Which SQL lists users?"}):
    print(text, end="|")
print()
model.close()
