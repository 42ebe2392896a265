"""What tells languages apart: function words, which every text of more than a few words has, and scripts.

Words are the most frequent ones of a language that carry grammar, not topic, in lower case. A word may stand in several
languages; the detector then counts it for each of them in part.
"""

WORDS: dict[str, str] = {
    "en": "the of and to in is that it for was on are as with his they at be this have from or had by but some what "
    "there we can out other were all your when up use how said an each she which do their if will about would "
    "these him has more could did my than been who its now made may me our into only then over also after "
    "should any because please write give explain does you i find following not between without where why "
    "hello hi thanks one two make tell sure is's don't it's i'm what's can't let's enter ensure must cannot "
    "valid value",
    "de": "der die das und ist in den von zu mit sich des auf für nicht ein eine als auch es an werden aus er hat "
    "dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur "
    "bis mehr durch man sein wurde wenn ich du wir ihr mein dein kann können was wer warum bitte gib schreibe "
    "erkläre mir dich dir uns euch diese dieser dieses welche welcher keine kein einfach zwischen ohne sehr "
    "muss müssen soll hallo danke wo im ins vom beim unter gegen dem bin bist hast habe",
    "fr": "le la les de des du et est un une que qui dans en pour pas sur au aux avec ce cette ces il elle ils nous "
    "vous je tu ne se sont par plus ou mais leur son sa ses été être avoir fait comme tout si y d'un d'une "
    "l'on c'est qu'il n'est quel quelle quels comment pourquoi où quand peux peut écris explique donne moi "
    "merci bonjour entre sans très aussi deux dont cet mon ma mes votre vos notre nos suis êtes ai avez doit "
    "même ici trouve était veuillez cela ça",
    "es": "el la los las de del y es un una que en por para con no se lo su sus al como más pero o este esta estos "
    "estas ya fue ser son está muy también me mi hay cuando desde todo nos durante uno ni contra ese eso ante "
    "ellos qué cómo cuál cuáles dónde quién escribe explica dame hola gracias entre sin puede puedes tengo "
    "tiene hacer sobre le les yo tú usted porque donde quiero necesito cada hasta debe debes soy eres "
    "encuentra según",
    "pt": "o a os as de do da dos das e é um uma que em no na nos nas por para com não se ao aos à como mais mas ou "
    "foi ser são está muito também me meu minha há quando já seu sua seus suas ele ela isso isto este esta "
    "pelo pela até sem você vocês eu nós qual quais onde quem porquê escreva explique dê olá obrigado "
    "obrigada entre pode posso tem fazer sobre lhe porque quero preciso cada deve num numa estou encontre "
    "essa esse",
    "it": "il lo la i gli le di del della dei delle degli e è un una che in per con non si al alla ai alle da dal "
    "dalla nel nella come più ma o sono anche questo questa questi queste ha ho era essere suo sua loro mi ti "
    "ci vi se quando dove chi cosa perché quale quali scrivi spiega dammi ciao grazie tra fra senza può puoi "
    "devo deve molto fare su sul sulla io tu noi voi ogni cui c'è dell'anno l'ha qual un'altra trova hanno "
    "abbiamo nell all dell sull",
    "ca": "el la els les de del dels i és un una que en per amb no es al als com més però o aquest aquesta aquests "
    "ser són està molt també em meu seva quan des tot ens sense què quin quina on qui escriu explica hola "
    "gràcies entre pot puc té fer sobre jo tu vostè perquè cada fins ha han hi ho això aquí heu cal",
    "ro": "și de la în a al ale cu pe este sunt un o că nu se din pentru care mai ca sau dar prin fi ar au am ai "
    "lui ei lor acest această aceste ce cum când unde cine scrie explică salut mulțumesc între fără foarte "
    "poate pot trebuie după eu tu noi voi fiecare până despre într-o fost are iar nici toate toți îmi îți",
    "nl": "de het een en van is in dat op te zijn met voor niet aan er om ook als bij maar door nog wordt naar uit "
    "dan zou over deze dit die wat hoe waarom wie waar wanneer kan kunnen mijn jouw je jij ik wij we hij zij "
    "hun haar geen of tussen zonder heel zeer moet moeten schrijf geef leg mij hallo bedankt dank wil heeft "
    "hebben heb werd worden tot al onder tegen veel meer welke gebruik alstublieft",
    "sv": "och i att det som en på är av för med den till inte om ett har de jag man men var sig från vi så kan när "
    "hur vad vem varför eller ska skulle där också efter vid under mot mellan utan mycket mer din ditt min "
    "mitt du ni han hon skriv ge förklara mig dig oss hej tack detta denna dessa vilken vilket alla bara "
    "måste blir blev finns något någon år nu ut upp in",
    "no": "og i det som en på er av for med den til ikke om et har de jeg man men var seg fra vi så kan når hvordan "
    "hva hvem hvorfor eller skal skulle der også etter ved under mot mellom uten mye mer din ditt min mitt du "
    "dere han hun skriv gi forklar meg deg oss hei takk dette denne disse hvilken hvilket alle bare må blir "
    "ble finnes noe noen år nå ut opp inn hvor eit ein ikkje eg kva korleis dei frå vere",
    "da": "og i det som en på er af for med den til ikke om et har de jeg man men var sig fra vi så kan når hvordan "
    "hvad hvem hvorfor eller skal skulle der også efter ved under mod mellem uden meget mere din dit min mit "
    "du han hun skriv giv forklar mig dig os hej tak dette denne disse hvilken hvilket alle kun bare må "
    "bliver blev findes noget nogen år nu ud op ind hvor været blevet",
    "fi": "ja on ei se että oli mutta kun niin kuin myös joka hän tämä sen olla ovat mitä miten miksi kuka missä "
    "milloin tai jos vain minä sinä me te he minun sinun kanssa ennen jälkeen ilman hyvin voi voit täytyy "
    "kirjoita selitä anna hei kiitos jotka jossa jonka joita tässä siitä sitä olen olet olemme ole pitää mikä "
    "mihin kaikki yksi kaksi nyt vielä sekä tulee voidaan sitten koska",
    "et": "ja on ei see et oli aga kui nii ka mis kes ta selle olla mida kuidas miks kus millal või ainult mina "
    "sina meie teie nad minu sinu koos enne pärast ilma väga võib peab kirjuta selgita anna tere aitäh siis "
    "oma seda kõik üks kaks nüüd veel palun olen oled oleme saab tuleb mitte need selles",
    "hu": "a az és hogy nem is egy van volt ez meg csak de ha már mint vagy el ki kell mi te én ő azt ezt lehet "
    "hogyan miért mikor hol mit melyik között nélkül nagyon írj írja magyarázd adj add nekem szia köszönöm "
    "köszi minden után előtt szerint pedig sem még olyan amely aki ami vannak lesz volna fel be le ezek azok "
    "egyik kérem kérjük legyen",
    "pl": "w i z na się nie to że do jest jak po co ale o tak za od jego przez by być dla czy tym tego ten ta te są "
    "był była który która które ich mnie mi ci ja ty my wy on ona jeśli gdy gdzie kiedy dlaczego kto napisz "
    "wyjaśnij podaj cześć dzień dziękuję proszę między bez bardzo może możesz musi mam masz oraz lub już "
    "tylko także jako przy ze we jej tej",
    "cs": "a v na se je že to s z do o jako i k za by ale pro po jsou jsem jsi jsme být byl byla bylo od tak také "
    "který která které jak co kdo kde kdy proč nebo když než mezi bez velmi může můžeš musí napiš vysvětli "
    "dej ahoj děkuji dobrý prosím jeho její mi mě ty já my vy už jen ještě podle při této tento toto není ve "
    "ze si však",
    "sk": "a v na sa je že to s z do o ako i k za by ale pre po sú som si sme byť bol bola bolo od tak tiež ktorý "
    "ktorá ktoré čo kto kde kedy prečo alebo keď než medzi bez veľmi môže môžeš musí napíš vysvetli daj ahoj "
    "ďakujem dobrý prosím jeho jej mi ma ty ja my vy už len ešte podľa pri tejto tento toto nie vo zo však",
    "hr": "i u je da na se za od su s sa koji koja koje kao što to ne ili ali iz po o bi biti bio bila bilo nije "
    "sam si smo ste kako zašto kada gdje tko ko šta između bez vrlo može možeš mora napiši objasni daj bok "
    "hvala molim njegov moj tvoj ja ti mi vi on ona već samo još prema ovaj ova ovo taj kad do pri nakon te",
    "sl": "in v je da na se za so z s ki kot to ne ali pa iz po o bi biti bil bila bilo ni sem si smo ste kako "
    "zakaj kdaj kje kdo kaj med brez zelo lahko mora napiši razloži daj zdravo hvala prosim njegov moj tvoj "
    "jaz ti mi vi on ona že samo še ta tega tudi če kadar do pri od več kateri katera",
    "lt": "ir yra į kad su iš tai kaip ne bet ar nuo per už dėl jis ji buvo būti kas kur kada kodėl kuris kuri "
    "kurie tik jau dar aš tu mes jūs mano tavo man tau po prie be labai gali turi parašyk paaiškink duok "
    "labas ačiū prašome arba nėra šis ši šio taip pat jei apie tarp savo iki",
    "lv": "un ir uz ka no ar par kā tas tā nav bet vai pie pēc līdz lai viņš viņa bija būt kas kur kad kāpēc kurš "
    "kura tikai jau vēl es tu mēs jūs mans tavs man tev bez ļoti var jābūt uzraksti paskaidro dod sveiki "
    "paldies lūdzu starp šis šī šo arī ja savu kuru kuri",
    "tr": "ve bir bu da de için ile ne çok daha gibi o var olarak ben sen biz siz onlar mi mı mu mü değil ama en "
    "kadar sonra olan nasıl neden niçin kim nerede hangi veya ya her şey bana sana yaz yazın açıkla ver "
    "merhaba teşekkürler lütfen arasında olmadan ise oldu olduğu eden diye iki ki hem yok gerekir geçerli "
    "arasındaki nedir bunu şu",
    "id": "yang dan di ini itu dengan untuk tidak dari dalam akan pada juga ke karena ada oleh saya kamu anda kami "
    "kita dia mereka adalah sebagai atau bisa dapat sudah telah apa bagaimana mengapa kapan siapa mana tulis "
    "tuliskan jelaskan berikan halo terima kasih tolong antara tanpa sangat lebih seperti saat agar bahwa "
    "lain harus hanya sebuah",
    "vi": "và của là có không cho được trong một các người những với này đã để khi tôi bạn chúng ta anh em như cũng "
    "nhưng đến từ ở ra vào về thì mà nào gì sao tại thế hãy viết giải thích xin chào cảm ơn giữa rất nhiều "
    "hơn hay hoặc phải số hai đó trên bằng nếu",
    "ru": "и в не на что он с как это по но из у за так же от бы к о до для вы мы я ты она они его её их был была "
    "было быть если или когда где кто почему какой какая какие напиши объясни дай привет спасибо пожалуйста "
    "между без очень может можно мне меня нет да уже только ещё все всё который которая которые чтобы при эта "
    "этот того также под",
    "uk": "і в не на що він з як це по але із у за так же від би до для ви ми я ти вона вони його її їх був була "
    "було бути якщо або коли де хто чому який яка які напиши поясни дай привіт дякую будь ласка між без дуже "
    "може можна мені мене ні та вже тільки ще всі все щоб при ця цей того також під є й про",
    "bg": "и в не на че той с като това по но от за така до ще са съм сме сте е да се ли вие ние аз ти тя те му бил "
    "била било ако или когато къде кой защо какъв каква какви напиши обясни дай здравей благодаря моля между "
    "без много може ми ме вече само още всички който която които при тази този както към какво как със във "
    "един една",
    "sr": "и у је да на се за од су с са који која које као што то не или али из по о би бити био била било није "
    "сам си смо сте како зашто када где ко шта између без врло може мораш мора напиши објасни дај здраво "
    "хвала молим његов мој твој ја ти ми ви он она већ само још према овај ова ово тај",
    "ar": "في من على إلى عن أن هذا هذه التي الذي ما هو هي لا كان مع أو كل بعد قبل بين حتى إذا كيف لماذا متى أين "
    "اكتب اشرح مرحبا شكرا ثم قد لم لن ليس يمكن أنا أنت نحن يجب هل كما ذلك غير و إن",
    "fa": "در به از که این را با است برای آن یک خود تا بر هم نیز می شود شده ها های ما من شما او آنها چه چگونه چرا "
    "کجا کی بنویس توضیح سلام ممنون لطفا بین بدون بسیار باید یا اگر هر بود کرد دارد نیست چیست کنید",
    "ur": "کے کی میں ہے کا اور سے کو پر یہ ہیں نے کہ اس ایک بھی نہیں کر تو جو وہ ہو تھا کیا کیسے کیوں کہاں کب لکھیں "
    "شکریہ سلام براہ کرم درمیان بغیر بہت اپنے گیا مجھے آپ ہم",
}
"""Language (ISO 639-1) -> its function words. Latin, then Cyrillic, then Arabic script."""

SCRIPTS: dict[str, tuple[tuple[int, int], ...]] = {
    "el": ((0x0370, 0x03FF), (0x1F00, 0x1FFF)),
    "hy": ((0x0530, 0x058F),),
    "he": ((0x0590, 0x05FF),),
    "hi": ((0x0900, 0x097F),),
    "bn": ((0x0980, 0x09FF),),
    "pa": ((0x0A00, 0x0A7F),),
    "gu": ((0x0A80, 0x0AFF),),
    "ta": ((0x0B80, 0x0BFF),),
    "te": ((0x0C00, 0x0C7F),),
    "kn": ((0x0C80, 0x0CFF),),
    "ml": ((0x0D00, 0x0D7F),),
    "si": ((0x0D80, 0x0DFF),),
    "th": ((0x0E00, 0x0E7F),),
    "lo": ((0x0E80, 0x0EFF),),
    "my": ((0x1000, 0x109F),),
    "ka": ((0x10A0, 0x10FF),),
    "am": ((0x1200, 0x137F),),
    "km": ((0x1780, 0x17FF),),
    "ko": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF)),
    "ja": ((0x3040, 0x30FF),),
    "zh": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
}
"""Language -> the code points of a script that is its alone, or nearly. Japanese is told from Chinese by its kana,
which a Japanese text always has; Devanagari counts as Hindi, its most frequent language."""

LETTERS: dict[str, str] = {
    "de": "ßäöü",
    "fr": "œçàèêûé",
    "es": "ñ¿¡éó",
    "pt": "ãõçêàéó",
    "it": "àèìòùé",
    "ca": "çàèòéó",
    "ro": "ășțşţâ",
    "sv": "åäö",
    "no": "åæø",
    "da": "åæø",
    "fi": "äö",
    "et": "õäöüšž",
    "hu": "őűöüéó",
    "pl": "łąęśźżńć",
    "cs": "řěůčšžé",
    "sk": "ľĺŕčšžé",
    "hr": "đćčšž",
    "sl": "čšž",
    "lt": "ėųįūąęčšž",
    "lv": "āēīūģķļņčšž",
    "tr": "ığşçöü",
    "vi": "ăơưđạảấầẩẫậắằẳẵặẹẻẽềếểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
    "ru": "ыэёщъ",
    "uk": "іїєґщ",
    "bg": "щъ",
    "sr": "ђћџљњј",
    "fa": "پچژگ",
    "ur": "ٹڈڑےھہںپچژگ",
}
"""Language -> letters that few others have; like function words, each counts in part for every language that has it."""
